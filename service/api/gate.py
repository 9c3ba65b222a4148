"""Refuses at the door what the queue has no room for: before it is routed, and before its body is read.

Under a flood most requests end here; each costs a fraction of what it would cost inside.
"""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import problems
from service.api.guards import has_key, key_in
from service.api.room import Room
from service.errors import TooBusy
from service.serving.deadline import Deadline


class Gate:
    """ASGI middleware in front of the routes that take images."""

    def __init__(self, app: ASGIApp, room: Room, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._room = room
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what there is room for, what is for another route, and what has no key."""
        app = self._app
        if self._room.classifier.batcher.pending and self._is_ours(scope):
            limit_s = self._room.limits.request_timeout_s
            try:
                self._room.classifier.batcher.check(1, Deadline.after(limit_s))
            except TooBusy as exc:
                app = problems.answer(exc, problems.is_foreign(scope))
        await app(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        """Whether it is for one of the routes, and would be let in. Names the route, as routing does."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return False
        for route in self._routes:
            if route.matches(scope)[0] is Match.FULL:
                scope["route"] = route
                return has_key(self._room.api_keys(), key_in(Headers(scope=scope)))
        return False
