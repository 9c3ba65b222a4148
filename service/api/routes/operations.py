"""GET /healthz, /readyz and /metrics: what orchestrators, load balancers and Prometheus ask."""

from fastapi import APIRouter, Response

from service import errors
from service.api import problems
from service.api.context import ENDED, InContext
from service.api.schemas import inventory

router = APIRouter(tags=["operation"])
# A router of its own, because a setting says whether it needs a key.
metrics_router = APIRouter(tags=["operation"])


@router.get("/healthz", responses=problems.documented(errors.NotReady))
async def healthz(context: InContext) -> inventory.Health:
    """The process is alive: answers while heads load and while the engine is busy.

    Not so once the engine's thread has ended, which only a restart mends.
    """
    if context.classifier.batcher.has_ended():
        raise errors.NotReady(ENDED)
    return inventory.Health()


@router.get("/readyz", responses=problems.documented(errors.NotReady))
async def readyz(context: InContext) -> inventory.Readiness:
    """Every required head (or any one, where none is required) passed its golden check and is warm.

    Not so once the service has been told to stop, although it still answers requests.
    """
    if missing := context.missing():
        raise errors.NotReady(" ".join(missing))
    return inventory.Readiness(heads=sorted(context.heads.serving()))


@metrics_router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **problems.documented(errors.NotAuthorized),
    },
)
def metrics(context: InContext) -> Response:
    """Prometheus metrics; without a key unless `open_metrics` is off."""
    content, media_type = context.metrics.exposition()
    return Response(content, media_type=media_type)
