"""POST /predict and POST /compare."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from service.api import answers
from service.api.access import needs_key
from service.api.context import InCall
from service.api.openapi import FAILURES, body_of
from service.api.schemas import results
from service.api.schemas.fields import CompareFields, PredictFields

router = APIRouter(tags=["predict"], dependencies=[Depends(needs_key)], responses=FAILURES)


@router.post(
    "/predict",
    summary="Classify images",
    response_model=results.Predicted,
    openapi_extra=body_of(PredictFields),
)
async def predict(call: InCall, query: Annotated[PredictFields, Query()]) -> Response:
    """Classifies one or more images with one head. The query overrides fields of the body."""
    images, fields = await call.read(query)
    head = call.context.choose_one(fields.head, fields.version)
    classified, timing = await call.run(call.context.classifier.classify(images, [head], call.permit))
    told = classified, head, call.context.engine_name(), fields.top_k, timing
    return await answers.as_json(call, classified.size, results.predicted, *told)


@router.post(
    "/compare",
    summary="Compare heads",
    response_model=results.Compared,
    openapi_extra=body_of(CompareFields),
)
async def compare(call: InCall, query: Annotated[CompareFields, Query()]) -> Response:
    """Classifies each image with several heads, and says whether they agree.

    Heads that share a backbone run it once.
    """
    images, fields = await call.read(query)
    names = None if fields.heads is None else [name.strip() for name in fields.heads.split(",")]
    heads = call.context.choose(names)
    classified, timing = await call.run(call.context.classifier.classify(images, heads, call.permit))
    told = classified, call.context.engine_name(), fields.top_k, timing
    return await answers.as_json(call, classified.size, results.compared, *told)
