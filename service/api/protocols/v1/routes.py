"""TensorFlow Serving's REST API over HTTP."""

from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Request, Response

from service import errors
from service.api import answers
from service.api.access import needs_key
from service.api.body import validated
from service.api.context import Context, InCall, InContext
from service.api.openapi import ABOUT_A_HEAD, FOREIGN_FAILURES
from service.api.protocols.v1 import messages
from service.api.protocols.versions import head_of, refuse_nameless, with_and_without
from service.serving.classifier import Picture
from service.serving.heads import HeadStatus

BODY = {
    "required": True,
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PredictRequest"}}},
}

router = APIRouter(tags=["v1"], dependencies=[Depends(needs_key)])
refuse_nameless(router, "/v1/models/", "/v1/models/:predict", "/v1/models//{rest:path}")


@with_and_without(
    router.post,
    "/v1/models/{head}:predict",
    summary="Classify images (TensorFlow Serving)",
    responses=FOREIGN_FAILURES,
    response_model=messages.Predictions | messages.Outputs,
    openapi_extra={"requestBody": BODY},
)
async def v1_predict(call: InCall) -> Response:
    """Returns the probabilities of each image: by rows for `instances`, as a column for `inputs`."""
    head, limit = head_of(call.request), call.context.limits.max_images_per_request
    is_column, pictures = await call.read_json(partial(_read, max_images=limit))
    done, _ = await call.run(call.context.classifier.classify(pictures, [head], call.permit))
    rows = [of_image[head.card.head] for of_image in done.images]
    return await answers.as_json(call, done.size, messages.prediction_rows, rows, is_column)


@router.get("/v1/models/{head}:predict", include_in_schema=False)
@router.get("/v1/models/{head}/versions/{version}:predict", include_in_schema=False)
async def v1_predict_by_get() -> None:
    """Refuses GET, which would otherwise match the status route of a head named `...:predict`."""
    raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED)


@with_and_without(
    router.get, "/v1/models/{head}/metadata", summary="Read the signature", responses=ABOUT_A_HEAD
)
async def v1_metadata(request: Request) -> dict[str, Any]:
    """Returns the signature of a head: its inputs and its output."""
    return messages.metadata(head_of(request))


@router.get("/v1/models/{head}", summary="List the versions", responses=ABOUT_A_HEAD)
async def v1_status(context: InContext, head: str) -> messages.ModelStatus:
    """Lists the versions of a head that are loaded or could not be loaded."""
    return messages.model_status(_status(context, head))


@router.get(
    "/v1/models/{head}/versions/{version}",
    summary="Read the status of a version",
    responses=ABOUT_A_HEAD,
)
async def v1_status_of_version(
    context: InContext, head: str, version: Annotated[int, Path(ge=1)]
) -> messages.ModelStatus:
    """Returns whether one version of a head is loaded, and if not, why."""
    status = _status(context, head)
    told = [
        one for one in messages.model_status(status).model_version_status if one.version == str(version)
    ]
    if not told:
        raise errors.UnknownVersion(head, version, sorted(status.loaded))
    return messages.ModelStatus(model_version_status=told)


def _read(body: bytes, max_images: int) -> tuple[bool, list[Picture]]:
    """Parses the body. Returns whether the images came as a column (`inputs`), and the pictures."""
    request = validated(messages.PredictRequest, body)
    return request.instances is None, request.pictures(max_images)


def _status(context: Context, head: str) -> HeadStatus:
    context.engine_name()  # Raises NotReady first: a head is unknown only once all are loaded.
    if head not in (statuses := context.heads.statuses):
        raise errors.UnknownHead(head, sorted(statuses))
    return statuses[head]
