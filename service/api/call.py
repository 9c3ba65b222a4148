"""One classification over HTTP: reads its images, runs it within its deadline, tells its timings."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Header, Request, Response

from service.api.body import read_body
from service.api.context import InRoom, Room
from service.api.guards import unless_gone
from service.api.request_images import parse, parsed
from service.api.schemas.fields import Fields
from service.api.schemas.results import Timing
from service.serving.capacity import Permit
from service.serving.classifier import Picture, Stages, size_of

TimeoutMs = Annotated[
    int | None,
    Header(
        alias="X-Request-Timeout-Ms",
        ge=1,
        description="deadline once the body has arrived, capped by `request_timeout_s`",
    ),
]

NUMBERS_GROW = 8  # "7," is two bytes of JSON, a pointer in a list and another one in an array

F = TypeVar("F", bound=Fields)
R = TypeVar("R")


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

    @property
    def permit(self) -> Permit:
        """That which the gate has given."""
        permit: Permit = self.request.state.permit
        return permit

    async def read(self, query: F) -> tuple[list[Picture], F]:
        """The images of the body, and its fields with those of the query on top."""
        body = await self._body()
        await self.permit.charge(len(body))  # for the copies that parsing makes
        limit = self.room.limits.max_images_per_request
        images, fields = await parse(self.request.headers, body, limit, type(query))
        self.permit.keep(sum(map(len, images)))
        return [*images], fields.model_copy(update=query.model_dump(exclude_none=True))

    async def read_json(
        self, read: Callable[[bytes], tuple[R, list[Picture]]], json_size: int | None = None
    ) -> tuple[R, list[Picture]]:
        """What `read` makes of the body: pictures, and the rest. All of it is JSON, or so many bytes."""
        body = await self._body()
        size = len(body) if json_size is None else json_size
        await self.permit.charge(len(body) + NUMBERS_GROW * size)
        request, pictures = await parsed(size, read, body)
        self.permit.keep(sum(map(size_of, pictures)))
        return request, pictures

    async def run(self, work: Coroutine[Any, Any, W]) -> tuple[W, Timing]:
        """What the classifier makes of the request, unless the client hangs up first."""
        done = await unless_gone(self.request, work)
        timing = Timing.of(done.stages, self.permit.deadline)
        self.response.headers["Server-Timing"] = timing.header()
        self.room.metrics.observe_stages(timing.model_dump())
        return done, timing

    async def _body(self) -> bytes:
        return await read_body(self.request, self.permit, self.room.limits)


async def _call(
    request: Request, response: Response, room: InRoom, _timeout_ms: TimeoutMs = None
) -> Call:
    """The gate has read the deadline; here it is documented, and refused where it is no number."""
    return Call(request, response, room)


InCall = Annotated[Call, Depends(_call)]
