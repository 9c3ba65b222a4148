"""GET and POST /benchmark: the last report of this host, and a new one."""

import asyncio

from fastapi import APIRouter, Depends, Request

from service import errors
from service.api import problems
from service.api.guards import read_body, unless_gone
from service.api.request_images import validated
from service.api.room import InRoom, Room, needs_admin, needs_key
from service.benchmark.children import Children
from service.benchmark.plan import Plan
from service.benchmark.report import Report

router = APIRouter(tags=["benchmark"])

BODY = {"content": {"application/json": {"schema": Plan.model_json_schema()}}}


@router.get(
    "/benchmark",
    dependencies=[Depends(needs_key)],
    responses=problems.documented(errors.NoReport, errors.NotAuthorized),
)
def last_report(room: InRoom) -> Report:
    """The last report of this host, whoever made it: this route, or the command."""
    return room.bench.last({name: head.card.version for name, head in room.heads.serving().items()})


@router.post(
    "/benchmark",
    dependencies=[Depends(needs_admin)],
    openapi_extra={"requestBody": BODY},
    responses=problems.documented(
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
async def measure(request: Request, room: InRoom) -> Report:
    """Measures latency and memory of the heads that serve, and answers when that is done.

    One run at a time. Requests are answered meanwhile, and both take longer; a client that hangs
    up ends the run.
    """
    body = await read_body(request, room.limits)
    return await unless_gone(request, _measure(room, validated(Plan, body or b"{}")))


async def _measure(room: Room, plan: Plan) -> Report:
    cards = [head.card for head in room.choose(plan.heads)]
    children = Children()
    try:
        return await asyncio.to_thread(room.bench.measure, plan, cards, room.engine_name(), children)
    finally:
        children.stop()
