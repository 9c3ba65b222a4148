"""Builds large answers in a thread, so that they do not block the event loop."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from fastapi import Response
from pydantic import BaseModel

from service.api.context import ImageCall

# An answer of at most so many probabilities is built on the event loop. That takes at most 5 ms, for
# which a thread that computes may hold up the event loop in any case (sys.getswitchinterval).
SMALL = 2000

P = ParamSpec("P")
R = TypeVar("R")


async def beside(probabilities: int, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls `work` on the event loop, or in a thread if it handles more than SMALL probabilities."""
    if probabilities <= SMALL:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


async def as_json(
    call: ImageCall, probabilities: int, build: Callable[P, BaseModel], *args: P.args, **kwargs: P.kwargs
) -> Response:
    """The JSON response of the model from `build`; FastAPI would serialise it on the event loop."""

    def write() -> Response:
        text = build(*args, **kwargs).model_dump_json()
        return Response(text, media_type="application/json", headers=call.response.headers)

    return await beside(probabilities, write)
