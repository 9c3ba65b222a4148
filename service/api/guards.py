"""What stands between a client and the work: keys, limits, hang-ups."""

import asyncio
import hmac
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.datastructures import Headers
from starlette.requests import Request

from service.errors import ClientGone, NotAuthorized

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """What one request may ask of the service; see the settings of the same names."""

    max_body_bytes: int
    body_timeout_s: float
    request_timeout_s: float
    max_images_per_request: int


def key_in(headers: Headers) -> str | None:
    """The key that a request carries: `Authorization: Bearer KEY`, else `X-API-Key: KEY`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else headers.get("x-api-key")


def has_key(keys: tuple[str, ...], given: str | None) -> bool:
    """Whether there are no keys, or one is given. Compares in constant time."""
    matches = [hmac.compare_digest((given or "").encode(), key.encode()) for key in keys]
    return not keys or any(matches)


def check_key(keys: tuple[str, ...], given: str | None) -> None:
    """Raises NotAuthorized unless `has_key`."""
    if not has_key(keys, given):
        raise NotAuthorized


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; cancels it and raises ClientGone when the client hangs up first.

    Only for requests whose body has been read: what comes next from the client is its hang-up.
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
