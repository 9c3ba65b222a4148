"""GET and POST /benchmark: the last report of this host, and a new one."""

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from service import errors
from service.api import problems
from service.api.access import needs_admin, needs_key
from service.api.body import read_body, validated
from service.api.context import InContext, unless_gone
from service.api.routes import events
from service.benchmark.children import Children
from service.benchmark.plan import Plan
from service.benchmark.report import Progress, Report

router = APIRouter(tags=["benchmark"])

BODY = {"content": {"application/json": {"schema": Plan.model_json_schema()}}}


def _event(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
    return {"type": "object", "properties": {"event": {"const": name}, "data": data}}


EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            events.MEDIA_TYPE: {
                "itemSchema": {
                    "oneOf": [
                        _event("progress", Progress.model_json_schema()),
                        _event("report", {"$ref": "#/components/schemas/Report"}),
                        _event("problem", {"$ref": "#/components/schemas/Problem"}),
                    ]
                }
            }
        }
    }
}


async def _children() -> AsyncGenerator[Children, None]:
    children = Children()
    try:
        yield children
    finally:
        children.stop()


# The children end with the request, however it ends.
InChildren = Annotated[Children, Depends(_children)]


@router.get(
    "/benchmark",
    summary="Read the last report",
    dependencies=[Depends(needs_key)],
    responses=problems.documented(errors.NoReport, errors.NotAuthorized),
)
def last_report(context: InContext) -> Report:
    """Returns the last report of this host, which POST /benchmark or the command line made."""
    return context.bench.last(
        {name: head.card.version for name, head in context.heads.serving().items()}
    )


@router.post(
    "/benchmark",
    summary="Run a benchmark",
    dependencies=[Depends(needs_admin)],
    openapi_extra={"requestBody": BODY},
    response_model=Report,
    responses=EVENTS
    | problems.documented(
        *problems.HEAD_ERRORS,
        errors.BadParameter,
        errors.BodyTooLarge,
        errors.BodyTooSlow,
        errors.BenchmarkRunning,
        errors.TooLittleMemory,
        errors.BenchmarkFailed,
        errors.NotAuthorized,
    ),
)
async def measure(request: Request, context: InContext, children: InChildren) -> Report | Response:
    """Measures latency and memory of the heads that serve, and answers when that is done.

    Only one run is possible at a time. The service goes on answering requests, which slows down both. A
    client that hangs up ends the run. With `Accept: text/event-stream` the answer is a stream of events:
    `progress`, and at the end one `report`, or one `problem` if the run fails after it has begun.
    """
    with context.classifier.capacity.permit(context.limits.request_timeout_s) as permit:
        plan = validated(Plan, await read_body(request, permit, context.limits) or b"{}")
    cards = [head.card for head in context.choose(plan.heads)]
    run = partial(context.bench.measure, plan, cards, context.engine_name(), children)
    if events.are_wanted(request):
        return await events.stream(request, run, "report")
    return await unless_gone(request, asyncio.to_thread(run))
