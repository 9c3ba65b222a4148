"""GET /healthz, /readyz and /metrics: what orchestrators, load balancers and Prometheus ask."""

from fastapi import APIRouter, Response

from service import errors
from service.api import problems
from service.api.context import ENDED, InRoom
from service.api.schemas import inventory

router = APIRouter(tags=["operation"])
metrics_router = APIRouter(tags=["operation"])  # who may read it is a setting


@router.get("/healthz", responses=problems.documented(errors.NotReady))
async def healthz(room: InRoom) -> inventory.Health:
    """The process is alive: answers while heads load and while the engine is busy.

    Not so once the engine's thread has ended, which only a restart mends.
    """
    if room.classifier.batcher.has_ended():
        raise errors.NotReady(ENDED)
    return inventory.Health()


@router.get("/readyz", responses=problems.documented(errors.NotReady))
async def readyz(room: InRoom) -> inventory.Readiness:
    """Every required head (or any one, where none is required) passed its golden check and is warm.

    Not so once the service has been told to stop, although it still answers requests.
    """
    if missing := room.missing():
        raise errors.NotReady(" ".join(missing))
    return inventory.Readiness(heads=sorted(room.heads.serving()))


@metrics_router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **problems.documented(errors.NotAuthorized),
    },
)
def metrics(room: InRoom) -> Response:
    """Prometheus metrics; without a key unless `open_metrics` is off."""
    content, media_type = room.metrics.exposition()
    return Response(content, media_type=media_type)
