"""Refuses requests under overload (429) before they are routed and before their bodies are read.

Under a flood most requests end here, where a refusal costs a fraction of what it costs in a route.
"""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import problems
from service.api.access import check_key, key_in
from service.api.context import Context
from service.errors import BodyTooLarge, RequestError
from service.serving.capacity import Permit

MAX_DIGITS = 20  # 20 digits hold every real length; int() refuses more than 4,300.


class Gate:
    """ASGI middleware in front of the routes that take images. It gives each request its permit."""

    def __init__(self, app: ASGIApp, context: Context, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._context = context
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Gives a request for an image route its permit or a refusal; other requests pass unchanged."""
        if not self._is_ours(scope):
            await self._app(scope, receive, send)
            return
        try:
            permit = self._let_in(Headers(scope=scope))
        except RequestError as exc:
            await problems.answer(exc, problems.is_foreign(scope))(scope, receive, send)
            return
        with permit:
            scope.setdefault("state", {})["permit"] = permit
            await self._app(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        """Returns whether an image route matches; sets `scope["route"]`, as Starlette's routing does."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return False
        for route in self._routes:
            if route.matches(scope)[0] is Match.FULL:
                scope["route"] = route
                return True
        return False

    def _let_in(self, headers: Headers) -> Permit:
        """Admits the request. Raises NotAuthorized, BodyTooLarge, or TooBusy."""
        limits = self._context.limits
        check_key(self._context.api_keys(), key_in(headers))
        if (_number(headers, "content-length") or 0) > limits.max_body_bytes:
            raise BodyTooLarge(limits.max_body_bytes)
        asked_ms = _number(headers, "x-request-timeout-ms")
        timeout_s = (
            min(limits.request_timeout_s, asked_ms / 1e3) if asked_ms else limits.request_timeout_s
        )
        return self._context.classifier.capacity.let_in(timeout_s)


def _number(headers: Headers, name: str) -> int | None:
    """The whole number in a header. Returns None for anything else, which the route refuses later."""
    given = headers.get(name, "")
    return int(given[:MAX_DIGITS]) if given.isascii() and given.isdecimal() else None
