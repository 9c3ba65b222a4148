"""GET /metrics."""

from fastapi import APIRouter, Response

from service import errors
from service.api import problems
from service.api.context import InRoom

router = APIRouter(tags=["operation"])


@router.get(
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
