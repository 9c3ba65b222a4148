"""Reads the body of a request, chunk by chunk, as its permit has room for it."""

import asyncio
import time
from collections import deque

from starlette.requests import Request

from service.api.encodings import decompress, largest
from service.api.guards import Limits
from service.errors import BodyTooLarge, BodyTooSlow, ClientGone
from service.serving.capacity import Capacity, Permit

WINDOW_S = 5.0
SLOW_BYTES_PER_S = 16 * 2**10
LOOK_S = 1.0


async def read_body(request: Request, permit: Permit, limits: Limits) -> bytes:
    """The whole body, decompressed where it says so. The deadline runs from its last byte.

    Raises BodyTooLarge as soon as that is known, BodyTooSlow, TooBusy, ClientGone, or what `decompress`
    does.
    """
    body = await _receive(request, permit, limits)
    permit.begin()
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return body
    await permit.charge(largest(len(body), limits.max_body_bytes))
    content = await asyncio.to_thread(decompress, body, encoding, limits.max_body_bytes)
    permit.keep(len(content))
    return content


async def _receive(request: Request, permit: Permit, limits: Limits) -> bytes:
    chunks: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(limits.body_timeout_s) as timeout:
            with _Arrival(permit.capacity, timeout) as arrival:
                while more:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    chunks.append(message.get("body", b""))
                    size += len(chunks[-1])
                    if size > limits.max_body_bytes:
                        raise BodyTooLarge(limits.max_body_bytes)
                    more = message.get("more_body", False)
                    arrival.add(len(chunks[-1]))
                    if not await permit.charge(len(chunks[-1])):
                        arrival.resume()
    except TimeoutError as exc:
        raise BodyTooSlow(
            arrival.reason or f"it did not arrive within {limits.body_timeout_s:g} s."
        ) from exc
    return b"".join(chunks)


class _Arrival:
    """Ends a body that comes slowly while the bytes in flight are at their bound: others need its room.

    Otherwise a body may pause as long as it likes, as phones do. A context manager: it looks every
    LOOK_S until the end.
    """

    def __init__(self, capacity: Capacity, timeout: asyncio.Timeout) -> None:
        self.reason = ""
        self._capacity = capacity
        self._timeout = timeout
        self._recent: deque[tuple[float, int]] = deque()

    def __enter__(self) -> "_Arrival":
        self.resume()
        self._timer = asyncio.get_running_loop().call_later(WINDOW_S, self._look)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def add(self, size: int) -> None:
        """So many bytes have come."""
        self._recent.append((time.monotonic(), size))

    def resume(self) -> None:
        """From now on nothing but the client holds the body up."""
        self._since = time.monotonic()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if self._capacity.is_full() and self._is_slow():
            self.reason = "it came at less than 16 KiB a second, and others wait for room."
            self._timeout.reschedule(loop.time())
        else:
            self._timer = loop.call_later(LOOK_S, self._look)

    def _is_slow(self) -> bool:
        begin = time.monotonic() - WINDOW_S
        while self._recent and self._recent[0][0] < begin:
            self._recent.popleft()
        return (
            self._since <= begin and sum(size for _, size in self._recent) < WINDOW_S * SLOW_BYTES_PER_S
        )
