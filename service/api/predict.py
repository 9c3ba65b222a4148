"""POST /predict and POST /compare."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from service import errors
from service.api import problems, schemas
from service.api.call import InCall
from service.api.request_images import Fields, TopK
from service.api.room import needs_key

router = APIRouter(tags=["predict"], dependencies=[Depends(needs_key)])

FAILURES = problems.documented(
    *problems.IMAGE_ERRORS,
    *problems.BODY_ERRORS,
    *problems.HEAD_ERRORS,
    *problems.ENGINE_ERRORS,
    errors.BadParameter,
    errors.NotAuthorized,
)


def _body(**fields: str) -> dict[str, Any]:
    """The three kinds of body for OpenAPI; `fields` are the text fields with their descriptions."""
    texts = {name: {"type": "string", "description": text} for name, text in fields.items()}
    top_k = {"top_k": {"type": "integer", "minimum": 1, "maximum": 10_000}}
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
    base64 = {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "description": "base64 or data URLs",
    }

    def form(name: str, images: dict[str, Any], closed: bool) -> dict[str, Any]:
        properties = {name: images} | texts | top_k
        schema = {"type": "object", "properties": properties, "required": [name]}
        return {"schema": schema | ({"additionalProperties": False} if closed else {})}

    content = {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": form("file", files, closed=False),
        "application/json": form("images", base64, closed=True),
    }
    return {"requestBody": {"required": True, "content": content}}


Name = Annotated[str | None, Query(description="name of the head; default: `default_head`")]
Names = Annotated[str | None, Query(description="names, comma-separated; default: all that serve")]
Ranks = Annotated[TopK | None, Query(description="how many classes, likeliest first; default 5")]


@router.post(
    "/predict",
    responses=FAILURES,
    openapi_extra=_body(head="name of the head"),
)
async def predict(call: InCall, head: Name = None, top_k: Ranks = None) -> schemas.Predicted:
    """Ranked classes of one or more images by one head. The query wins over fields of the body."""
    images, fields = await call.read(Fields(head=head, top_k=top_k))
    if fields.heads is not None:
        raise errors.BadParameter("heads: only /compare takes it; /predict takes head.")
    loaded = call.room.heads.get(fields.head or call.room.default_head)
    classified, timing = await call.classify(images, [loaded])
    return schemas.predicted(classified, loaded, call.room.engine_name(), fields.top_k, timing)


@router.post(
    "/compare",
    responses=FAILURES,
    openapi_extra=_body(heads="names, comma-separated"),
)
async def compare(call: InCall, heads: Names = None, top_k: Ranks = None) -> schemas.Compared:
    """Every head on each image, one backbone pass where heads share, and whether they agree."""
    images, fields = await call.read(Fields(heads=heads, top_k=top_k))
    if fields.head is not None:
        raise errors.BadParameter("head: only /predict takes it; /compare takes heads.")
    names = None if fields.heads is None else [name.strip() for name in fields.heads.split(",")]
    classified, timing = await call.classify(images, call.room.choose(names))
    return schemas.compared(classified, call.room.engine_name(), fields.top_k, timing)
