"""POST /explain and POST /shift: where a head finds evidence, and how much position matters to it."""

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from service import errors
from service.api import answers, problems
from service.api.access import needs_key
from service.api.context import InCall
from service.api.openapi import FAILURES, body_of
from service.api.schemas import results
from service.api.schemas.fields import OFFSET, ExplainFields, ShiftFields
from service.serving.explain import overlay
from service.serving.explain.shift import GRID, IN_PLACE, Offset

router = APIRouter(tags=["explain"], dependencies=[Depends(needs_key)])

UNEXPLAINED = problems.documented(
    *problems.IMAGE_ERRORS, *problems.BODY_ERRORS, errors.BadParameter, errors.CannotExplain
)
PNG = {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}


@router.post(
    "/explain",
    summary="Explain an answer",
    responses=FAILURES | UNEXPLAINED | {200: PNG},
    response_model=results.Explained,
    openapi_extra=body_of(ExplainFields),
)
async def explain(call: InCall, query: Annotated[ExplainFields, Query()]) -> Response:
    """Returns how much each position of the feature map adds to the logit of a class.

    The sum of `grid` plus `constant` is exactly the `logit`. With `format=png` the answer is a drawing
    of one picture under its map.
    """
    images, fields = await call.read(query)
    head = call.context.choose_one(fields.head, fields.version)
    index = None if fields.label is None else _index_of(fields.label, head.card.labels)
    if fields.format == "png" and len(images) > 1:
        raise errors.BadParameter("format: png needs a request with one image.")
    done, timing = await call.run(call.context.classifier.explain(images, head, call.permit, index))
    if fields.format != "png":
        told = done, head, call.context.engine_name(), timing
        return await answers.as_json(call, done.classified.size, results.explained, *told)
    card, evidence = head.card, done.evidence[0]
    title = f"{card.head} {card.version}: {card.labels[evidence.index]}"
    pixels = done.classified.traces[0][card.head].pixels
    picture = await asyncio.to_thread(overlay.draw, pixels, evidence, title)
    return Response(picture, media_type="image/png", headers={"Server-Timing": timing.header()})


@router.post(
    "/shift",
    summary="Move a picture",
    responses=FAILURES,
    response_model=results.Shifted,
    openapi_extra=body_of(ShiftFields, max_images=1),
)
async def shift(call: InCall, query: Annotated[ShiftFields, Query()]) -> Response:
    """Moves one picture by each offset, repeating its edges, and compares each head's answers."""
    images, fields = await call.read(query)
    if len(images) > 1:
        raise errors.BadParameter("/shift takes one image.")
    offsets = GRID if fields.offset is None else tuple(map(_offset, fields.offset))
    heads = call.context.choose(fields.head)
    ran = tuple(dict.fromkeys((IN_PLACE, *offsets)))
    classified, timing = await call.run(
        call.context.classifier.classify(images, heads, call.permit, ran)
    )
    told = classified, ran, offsets, call.context.engine_name(), timing
    return await answers.as_json(call, classified.size, results.shifted, *told)


def _index_of(label: str, labels: Sequence[str]) -> int:
    """Resolves a class by its label, else by its index. A label may itself be a number."""
    if label in labels:
        return labels.index(label)
    if re.fullmatch(r"[0-9]{1,9}", label) and int(label) < len(labels):
        return int(label)
    raise errors.BadParameter(
        f"class: there is no {label!r}; send a label, or an index below {len(labels)}."
    )


def _offset(text: str) -> Offset:
    if found := re.fullmatch(OFFSET, text):
        return int(found[1]), int(found[2])
    raise errors.BadParameter(f"offset: {text!r} is not of the form right,down, such as 8,-4.")
