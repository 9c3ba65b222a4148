"""The dependencies of routes: the application's collaborators, and the images of one request."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from threading import Event
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Header, Request, Response

from service.api.body import Limits, parse_images, parsed, read_body
from service.api.metrics import Metrics
from service.api.schemas.fields import Fields
from service.api.schemas.results import Timing
from service.benchmark.bench import Bench
from service.errors import ClientGone, NotReady
from service.serving.capacity import STOPPING, Permit
from service.serving.classifier import Classifier, Picture, Stages, size_of
from service.serving.engines import EngineName
from service.serving.heads import Heads
from service.serving.loading import LoadedHead

ENDED = "The engine's thread has ended; the process must be restarted."


@dataclass(frozen=True)
class Context:
    """The collaborators of one application."""

    classifier: Classifier
    metrics: Metrics
    bench: Bench
    limits: Limits
    stopping: Event
    default_head: str
    required_heads: tuple[str, ...]
    api_keys: Callable[[], tuple[str, ...]]
    admin_keys: Callable[[], tuple[str, ...]]

    @property
    def heads(self) -> Heads:
        return self.classifier.heads

    def missing(self) -> list[str]:
        """Returns the reasons why the service is not ready, as sentences; stopping is one of them."""
        if self.stopping.is_set():
            return [STOPPING]
        if self.classifier.batcher.has_ended():
            return [ENDED]
        return self.heads.missing(self.required_heads)

    def engine_name(self) -> EngineName:
        """Returns the engine that runs every head. Raises NotReady before it is open."""
        if self.heads.engine_name is None:
            raise NotReady(" ".join(self.heads.missing(())))
        return self.heads.engine_name

    def choose_one(self, name: str | None, version: int | None) -> LoadedHead:
        """Returns the named head, or the default head for None. Raises what `heads.get` raises."""
        return self.heads.get(self.default_head if name is None else name, version)

    def choose(self, names: Iterable[str] | None) -> list[LoadedHead]:
        """Returns the named heads, each once, or all for None. Raises what `heads.get` raises."""
        if names is not None:
            return [self.heads.get(name) for name in dict.fromkeys(names)]
        self.engine_name()  # Raises NotReady first: a store is empty only once it is loaded.
        if serving := self.heads.serving():
            return list(serving.values())
        raise NotReady(" ".join(self.heads.missing(())))


# Dependencies are coroutines: FastAPI would run each plain function in a thread.


def context_of(request: Request) -> Context:
    """The collaborators of the application that answers this request."""
    context: Context = request.app.state.context
    return context


async def _context(request: Request) -> Context:
    return context_of(request)


InContext = Annotated[Context, Depends(_context)]


T = TypeVar("T")


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Awaits `work`; cancels it and raises ClientGone when the client disconnects first.

    The request's body must have been read: the next message of the client is then its disconnect.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


TimeoutMs = Annotated[
    int | None,
    Header(
        alias="X-Request-Timeout-Ms",
        ge=1,
        description="Milliseconds from the end of the body to the answer, at most `request_timeout_s`.",
    ),
]

NUMBERS_GROW = 8  # The two bytes "7," of JSON become two pointers, one in a list and one in an array.

F = TypeVar("F", bound=Fields)
R = TypeVar("R")


class Staged(Protocol):
    """A result of the classifier that tells the time spent in each stage."""

    @property
    def stages(self) -> Stages: ...


W = TypeVar("W", bound=Staged)


@dataclass(frozen=True)
class ImageCall:
    """One request of a route that takes images."""

    request: Request
    response: Response
    context: Context

    @property
    def permit(self) -> Permit:
        """The permit that the gate gave this request."""
        permit: Permit = self.request.state.permit
        return permit

    async def read(self, query: F) -> tuple[list[Picture], F]:
        """Reads the body's images and fields. Fields of `query` override those of the body."""
        body = await self._body()
        await self.permit.charge(len(body))  # Parsing copies the body once.
        limit = self.context.limits.max_images_per_request
        images, fields = await parse_images(self.request.headers, body, limit, type(query))
        self.permit.keep(sum(map(len, images)))
        return [*images], fields.model_copy(update=query.model_dump(exclude_none=True))

    async def read_json(
        self, read: Callable[[bytes], tuple[R, list[Picture]]], json_size: int | None = None
    ) -> tuple[R, list[Picture]]:
        """Parses the body by `read`. Its first `json_size` bytes are JSON; None means all of it."""
        body = await self._body()
        size = len(body) if json_size is None else min(json_size, len(body))
        await self.permit.charge(len(body) + NUMBERS_GROW * size)
        request, pictures = await parsed(size, read, body)
        self.permit.keep(sum(map(size_of, pictures)))
        return request, pictures

    async def run(self, work: Coroutine[Any, Any, W]) -> tuple[W, Timing]:
        """Awaits the classifier's `work`. Raises ClientGone when the client disconnects first."""
        done = await unless_gone(self.request, work)
        timing = Timing.of(done.stages, self.permit.deadline)
        self.response.headers["Server-Timing"] = timing.header()
        self.context.metrics.observe_stages(timing.model_dump())
        return done, timing

    async def _body(self) -> bytes:
        return await read_body(self.request, self.permit, self.context.limits)


async def _call(request: Request, response: Response, _timeout_ms: TimeoutMs = None) -> ImageCall:
    """Makes the ImageCall. `_timeout_ms` documents and validates a header that the gate reads."""
    return ImageCall(request, response, context_of(request))


InCall = Annotated[ImageCall, Depends(_call)]
