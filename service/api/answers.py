"""Builds large answers in a thread, so that they do not block the event loop."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from fastapi import Response
from pydantic import BaseModel

from service.api.context import ImageCall

# Probabilities. So many take 5 ms at worst, which a thread that computes keeps the event loop waiting
# in any case (sys.getswitchinterval).
SMALL = 2000

P = ParamSpec("P")
R = TypeVar("R")


async def beside(probabilities: int, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls `work`, in a thread if so many probabilities would make it block the event loop."""
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
