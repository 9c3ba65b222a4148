"""Routes of other servers' protocols, whose paths name a head and optionally its version."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Request

from service.api.context import InContext
from service.serving.loading import LoadedHead

E = TypeVar("E", bound=Callable[..., Any])


def with_and_without(add: Callable[..., Any], path: str, **described: Any) -> Callable[[E], E]:  # noqa: ANN401 (FastAPI's)
    """Registers an endpoint twice: under `path`, and with `/versions/{version}` after the head."""

    def register(endpoint: E) -> E:
        add(path, dependencies=[Depends(_serving)], **described)(endpoint)
        longer = path.replace("{head}", "{head}/versions/{version}")
        name = f"{endpoint.__name__}_of_version"
        add(longer, dependencies=[Depends(_version)], name=name, **described)(endpoint)
        return endpoint

    return register


def refuse_nameless(router: APIRouter, *paths: str) -> None:
    """Registers paths whose head name is empty, so that they answer that there is no such head."""
    for path in paths:
        router.add_api_route(path, _nameless, methods=["GET", "POST"], include_in_schema=False)


def head_of(request: Request) -> LoadedHead:
    """Returns the head that the path of the request names, in the version that it names."""
    head: LoadedHead = request.state.head
    return head


async def _nameless(context: InContext) -> None:
    context.heads.get("")


async def _serving(request: Request, context: InContext, head: str) -> None:
    request.state.head = context.heads.get(head)


async def _version(
    request: Request, context: InContext, head: str, version: Annotated[int, Path(ge=1)]
) -> None:
    request.state.head = context.heads.get(head, version)
