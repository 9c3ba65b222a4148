"""GET /healthz and /readyz: what orchestrators and load balancers ask."""

from fastapi import APIRouter

from service import errors
from service.api import problems
from service.api.context import ENDED, InRoom
from service.api.schemas import inventory

router = APIRouter(tags=["operation"])


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
