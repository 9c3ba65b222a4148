"""GET /heads and GET /heads/{head}: which heads are in the store, and which are loaded."""

from fastapi import APIRouter, Depends

from service import errors
from service.api import problems
from service.api.access import needs_key
from service.api.context import InContext
from service.api.protocols.versions import refuse_nameless
from service.api.schemas import inventory

router = APIRouter(tags=["heads"], dependencies=[Depends(needs_key)])
refuse_nameless(router, "/heads/")


@router.get(
    "/heads",
    summary="List the heads",
    responses=problems.documented(errors.NotReady, errors.NotAuthorized),
)
def heads(context: InContext) -> inventory.HeadList:
    """Lists the heads of the store: what serves, what shares a backbone, and what failed and why."""
    engine, serving = context.engine_name(), context.heads.serving()
    return inventory.HeadList(
        heads=[
            inventory.head_info(name, status, serving, engine)
            for name, status in context.heads.statuses.items()
        ]
    )


@router.get(
    "/heads/{head}",
    summary="Describe a head",
    responses=problems.documented(errors.UnknownHead, errors.NotReady, errors.NotAuthorized),
)
def head(head: str, context: InContext) -> inventory.Head:
    """Describes one head of the store."""
    engine, statuses = context.engine_name(), context.heads.statuses
    if head not in statuses:
        raise errors.UnknownHead(head, sorted(statuses))
    return inventory.head_info(head, statuses[head], context.heads.serving(), engine)
