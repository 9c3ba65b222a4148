"""One classification over HTTP: reads its images, runs it within its deadline, tells its timings."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Header, Request, Response

from service.api.fields import Fields
from service.api.guards import read_body, unless_gone
from service.api.request_images import parse
from service.api.room import InRoom, Room
from service.api.schemas import Timing
from service.serving.classifier import Stages
from service.serving.deadline import Deadline

TimeoutMs = Annotated[
    int | None,
    Header(
        alias="X-Request-Timeout-Ms",
        ge=1,
        description="deadline once the body has arrived, capped by `request_timeout_s`",
    ),
]

F = TypeVar("F", bound=Fields)


class Staged(Protocol):
    """What the classifier returns."""

    @property
    def stages(self) -> Stages: ...


W = TypeVar("W", bound=Staged)


@dataclass(frozen=True)
class Call:
    """What the routes that take images depend on."""

    request: Request
    response: Response
    room: Room
    timeout_ms: int | None

    async def body(self) -> bytes:
        """All of it, within the limits."""
        return await read_body(self.request, self.room.limits)

    async def read(self, query: F) -> tuple[list[bytes], F]:
        """The images of the body, and its fields with those of the query on top."""
        body, limit = await self.body(), self.room.limits.max_images_per_request
        images, fields = await parse(self.request.headers, body, limit, type(query))
        return images, fields.model_copy(update=query.model_dump(exclude_none=True))

    async def run(
        self, work: Callable[[Deadline], Coroutine[Any, Any, W]], timeout_ms: float | None = None
    ) -> tuple[W, Timing]:
        """What the classifier makes of the request by its deadline, unless the client hangs up first.

        A `timeout_ms` in the body may shorten that deadline.
        """
        asked_s = [ms / 1e3 for ms in (self.timeout_ms, timeout_ms) if ms]
        deadline = Deadline.after(min([self.room.limits.request_timeout_s, *asked_s]))
        done = await unless_gone(self.request, work(deadline))
        timing = Timing.of(done.stages, deadline)
        self.response.headers["Server-Timing"] = timing.header()
        self.room.metrics.observe_stages(timing.model_dump())
        return done, timing


async def _call(
    request: Request, response: Response, room: InRoom, timeout_ms: TimeoutMs = None
) -> Call:
    return Call(request, response, room, timeout_ms)


InCall = Annotated[Call, Depends(_call)]
