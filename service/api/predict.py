"""POST /predict and POST /compare."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from service.api import schemas
from service.api.call import InCall
from service.api.fields import CompareFields, PredictFields
from service.api.images import FAILURES, body_of
from service.api.room import needs_key

router = APIRouter(tags=["predict"], dependencies=[Depends(needs_key)], responses=FAILURES)


@router.post("/predict", openapi_extra=body_of(PredictFields))
async def predict(call: InCall, query: Annotated[PredictFields, Query()]) -> schemas.Predicted:
    """Ranked classes of one or more images by one head. The query wins over fields of the body."""
    images, fields = await call.read(query)
    head = call.room.choose_one(fields.head, fields.version)
    classified, timing = await call.run(call.room.classifier.classify(images, [head], call.permit))
    return schemas.predicted(classified, head, call.room.engine_name(), fields.top_k, timing)


@router.post("/compare", openapi_extra=body_of(CompareFields))
async def compare(call: InCall, query: Annotated[CompareFields, Query()]) -> schemas.Compared:
    """Every head on each image, one backbone pass where heads share, and whether they agree."""
    images, fields = await call.read(query)
    names = None if fields.heads is None else [name.strip() for name in fields.heads.split(",")]
    heads = call.room.choose(names)
    classified, timing = await call.run(call.room.classifier.classify(images, heads, call.permit))
    return schemas.compared(classified, call.room.engine_name(), fields.top_k, timing)
