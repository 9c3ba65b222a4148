"""GET /healthz, /readyz and /metrics: what orchestrators, load balancers and Prometheus ask."""

from fastapi import APIRouter, Response

from service import errors
from service.api import problems
from service.api.context import ENDED, InContext
from service.api.openapi import either_key
from service.api.schemas import inventory

router = APIRouter(tags=["operation"])
# The metrics have a router of their own, because a setting says whether they need a key.
metrics_router = APIRouter(tags=["operation"])


@router.get("/healthz", summary="Check liveness", responses=problems.documented(errors.NotReady))
async def healthz(context: InContext) -> inventory.Health:
    """Answers 200 while the process is alive, also while heads load and while the engine is busy.

    Answers 503 once the engine's thread has ended: the process must then be restarted.
    """
    if context.classifier.batcher.has_ended():
        raise errors.NotReady(ENDED)
    return inventory.Health()


@router.get("/readyz", summary="Check readiness", responses=problems.documented(errors.NotReady))
async def readyz(context: InContext) -> inventory.Readiness:
    """Answers 200 once every required head, or any one if none is required, is checked and warm.

    Answers 503 with the reasons otherwise, and once the service has been told to stop, although it then
    still answers requests.
    """
    if missing := context.missing():
        raise errors.NotReady(" ".join(missing))
    return inventory.Readiness(heads=sorted(context.heads.serving()))


@metrics_router.get(
    "/metrics",
    summary="Read the metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **problems.documented(errors.NotAuthorized),
    },
    openapi_extra={"security": [{}, *either_key()]},
)
def metrics(context: InContext) -> Response:
    """Returns the metrics for Prometheus. A key is needed only if the setting `open_metrics` is off."""
    content, media_type = context.metrics.exposition()
    return Response(content, media_type=media_type)
