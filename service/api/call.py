"""One classification over HTTP: reads its images, runs it within its deadline, tells its timings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request, Response

from service.api.guards import read_body, unless_gone
from service.api.request_images import Fields, parse
from service.api.room import InRoom, Room
from service.api.schemas import Timing
from service.serving.batcher import Deadline
from service.serving.classifier import Classified
from service.serving.heads import LoadedHead

TimeoutMs = Annotated[
    int | None,
    Header(
        alias="X-Request-Timeout-Ms",
        ge=1,
        description="deadline once the body has arrived, capped by `request_timeout_s`",
    ),
]


@dataclass(frozen=True)
class Call:
    """What the routes that take images depend on."""

    request: Request
    response: Response
    room: Room
    timeout_ms: int | None

    async def read(self, query: Fields) -> tuple[list[bytes], Fields]:
        """The images of the body, and its fields with those of the query on top."""
        limits = self.room.limits
        body = await read_body(self.request, limits)
        images, fields = await parse(self.request.headers, body, limits.max_images_per_request)
        return images, fields.model_copy(update=query.model_dump(exclude_none=True))

    async def classify(
        self, images: Sequence[bytes], heads: Sequence[LoadedHead]
    ) -> tuple[Classified, Timing]:
        """What the classifier returns, unless the client hangs up first."""
        limit_s = self.room.limits.request_timeout_s
        deadline = Deadline.after(min(self.timeout_ms / 1e3, limit_s) if self.timeout_ms else limit_s)
        work = self.room.classifier.classify(images, heads, deadline)
        classified = await unless_gone(self.request, work)
        timing = Timing.of(classified, deadline)
        self.response.headers["Server-Timing"] = timing.header()
        self.room.metrics.observe_stages(timing.model_dump())
        return classified, timing


async def _call(
    request: Request, response: Response, room: InRoom, timeout_ms: TimeoutMs = None
) -> Call:
    return Call(request, response, room, timeout_ms)


InCall = Annotated[Call, Depends(_call)]
