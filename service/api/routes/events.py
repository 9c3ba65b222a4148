"""Server-Sent Events: reports the progress and the result of long-running work."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Generic, TypeVar

from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from pydantic import BaseModel
from starlette.requests import Request

from service.api import problems
from service.api.context import unless_gone
from service.errors import RequestError

log = logging.getLogger(__name__)

MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
QUIET_S = 5.0  # Proxies close connections that are silent for long.

T = TypeVar("T", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)

Work = Callable[[Callable[[T], None]], R]


def are_wanted(request: Request) -> bool:
    """Whether the Accept header asks for an event stream instead of one JSON answer."""
    return MEDIA_TYPE in request.headers.get("accept", "").lower()


async def stream(
    request: Request, work: Work[T, R], name: str, quiet_s: float = QUIET_S
) -> EventSourceResponse:
    """Sends the progress reports of blocking `work` as events `progress`, its result as event `name`.

    An error of `work` becomes an event `problem`; before the first report it is raised here instead. A
    comment keeps the connection alive when nothing was sent for `quiet_s`.
    """
    listening = Listening(work)
    first = await unless_gone(request, listening.hear())
    if first is None:
        listening.end()
    return EventSourceResponse(_events(listening, first, name, quiet_s), headers=HEADERS)


class Listening(Generic[T, R]):
    """Runs blocking work in a thread, and passes its progress reports to the event loop."""

    def __init__(self, work: Work[T, R]) -> None:
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[T | None] = asyncio.Queue()
        self._work = asyncio.ensure_future(asyncio.to_thread(work, self._tell))
        self._work.add_done_callback(self._finish)

    async def hear(self) -> T | None:
        """Awaits the next progress report; None means that the work has ended."""
        return await self._told.get()

    def end(self) -> R:
        """Returns the result of the work, or raises its error."""
        return self._work.result()

    def _tell(self, told: T) -> None:
        self._loop.call_soon_threadsafe(self._told.put_nowait, told)

    def _finish(self, work: asyncio.Future[R]) -> None:
        if not work.cancelled():
            # Retrieve the exception: asyncio logs those that nobody retrieves, as after a hang-up.
            work.exception()
        self._told.put_nowait(None)


async def _events(
    listening: Listening[T, R], told: T | None, name: str, quiet_s: float
) -> AsyncGenerator[bytes, None]:
    while told is not None:
        yield format_sse_event(event="progress", data_str=told.model_dump_json())
        hearing = asyncio.ensure_future(listening.hear())
        while not (await asyncio.wait({hearing}, timeout=quiet_s))[0]:
            yield KEEPALIVE_COMMENT
        told = hearing.result()
    yield _last(listening, name)


def _last(listening: Listening[T, R], name: str) -> bytes:
    try:
        return format_sse_event(event=name, data_str=listening.end().model_dump_json())
    except RequestError as exc:
        problem = problems.answer(exc)
    except Exception:
        log.exception("the work failed after its event stream had begun")
        problem = problems.unexpected()
    return format_sse_event(event="problem", data_str=bytes(problem.body).decode())
