"""Open Inference Protocol v2 over HTTP."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response

import service
from service import errors
from service.api import answers, problems
from service.api.access import needs_key
from service.api.context import InCall, InContext
from service.api.openapi import ABOUT_A_HEAD, FOREIGN_FAILURES
from service.api.protocols.v2 import messages, wire
from service.api.protocols.versions import head_of, refuse_nameless, with_and_without

JSON_SIZE = "Inference-Header-Content-Length"
BINARY = "application/octet-stream"
BINARY_CONTENT = {BINARY: {"schema": {"type": "string", "format": "binary"}}}
BODY = {
    "required": True,
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InferenceRequest"}}}
    | BINARY_CONTENT,
}

router = APIRouter(tags=["v2"], dependencies=[Depends(needs_key)])
refuse_nameless(router, "/v2/models/", "/v2/models//{rest:path}")
health = APIRouter(tags=["v2"])

JsonSize = Annotated[
    int | None,
    Header(
        alias=JSON_SIZE,
        ge=0,
        description="Bytes of JSON before the tensor data; 0 if the whole body is one image file.",
    ),
]


@health.get("/v2/health/live", summary="Check liveness")
async def v2_live() -> messages.Live:
    """Answers 200 while the process is alive."""
    return messages.Live()


@health.get(
    "/v2/health/ready", summary="Check readiness", responses=problems.documented(errors.NotReady)
)
async def v2_ready(context: InContext) -> messages.Ready:
    """Answers 200 when /readyz does, and else 503 with the reasons."""
    if missing := context.missing():
        raise errors.NotReady(" ".join(missing))
    return messages.Ready()


@router.get("/v2", summary="Describe the server", responses=problems.documented(errors.NotAuthorized))
@router.get("/v2/", include_in_schema=False)
async def v2_server() -> messages.Server:
    """Returns the server's name and version, and the extensions of the protocol that it supports."""
    return messages.Server(name="resnet-heads", version=service.__version__)


@with_and_without(
    router.get, "/v2/models/{head}", summary="Describe the tensors of a head", responses=ABOUT_A_HEAD
)
async def v2_model(request: Request, context: InContext) -> messages.Model:
    """Returns the inputs and the output of a head."""
    head = head_of(request)
    return messages.model(
        head, list(context.heads.statuses[head.card.head].loaded), context.engine_name()
    )


@with_and_without(router.get, "/v2/models/{head}/ready", summary="Check a head", responses=ABOUT_A_HEAD)
async def v2_model_ready() -> messages.Ready:
    """Answers 200 if the head, or the version in the path, is loaded."""
    return messages.Ready()


@with_and_without(
    router.post,
    "/v2/models/{head}/infer",
    summary="Classify images (Open Inference Protocol)",
    responses=FOREIGN_FAILURES | {200: {"content": BINARY_CONTENT}},
    response_model=messages.InferenceResponse,
    openapi_extra={"requestBody": BODY},
)
async def v2_infer(call: InCall, json_size: JsonSize = None) -> Response:
    """Returns the probabilities of each image, in JSON or in binary as the request asks."""
    head, limit = head_of(call.request), call.context.limits.max_images_per_request
    read = partial(wire.read_request, json_size=json_size, head=head, max_images=limit)
    request, pictures = await call.read_json(read, json_size)
    if request.parameters.timeout:
        call.permit.shorten(request.parameters.timeout / 1e6)
    done, timing = await call.run(call.context.classifier.classify(pictures, [head], call.permit))
    probabilities = [of_image[head.card.head] for of_image in done.images]
    text, binary = await answers.beside(done.size, wire.write_response, request, head, probabilities)
    headers = {"Server-Timing": timing.header()}
    if not binary:
        return Response(text, media_type="application/json", headers=headers)
    return Response(text + binary, media_type=BINARY, headers=headers | {JSON_SIZE: str(len(text))})
