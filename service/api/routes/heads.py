"""GET /heads and GET /heads/{head}: what is loaded."""

from fastapi import APIRouter, Depends

from service import errors
from service.api import problems
from service.api.access import needs_key
from service.api.context import InRoom
from service.api.protocols.versions import refuse_nameless
from service.api.schemas import inventory

router = APIRouter(tags=["heads"], dependencies=[Depends(needs_key)])
refuse_nameless(router, "/heads/")


@router.get("/heads", responses=problems.documented(errors.NotReady, errors.NotAuthorized))
def heads(room: InRoom) -> inventory.HeadList:
    """Every head of the store: what serves, who shares a backbone, and what stays out and why."""
    engine, serving = room.engine_name(), room.heads.serving()
    return inventory.HeadList(
        heads=[
            inventory.head_info(name, status, serving, engine)
            for name, status in room.heads.statuses.items()
        ]
    )


@router.get(
    "/heads/{head}",
    responses=problems.documented(errors.UnknownHead, errors.NotReady, errors.NotAuthorized),
)
def head(head: str, room: InRoom) -> inventory.Head:
    """One head of the store."""
    engine, statuses = room.engine_name(), room.heads.statuses
    if head not in statuses:
        raise errors.UnknownHead(head, sorted(statuses))
    return inventory.head_info(head, statuses[head], room.heads.serving(), engine)
