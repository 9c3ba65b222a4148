"""The outermost layer: a request id, safe headers, one log line and the metrics of every answer."""

import logging
import re
import time
import uuid
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import logs
from service.api.metrics import Metrics
from service.api.problems import unexpected

log = logging.getLogger("service.requests")

ID = re.compile(r"[\x21-\x7e]{1,128}")
GONE = 499


class Edge:
    """The outermost ASGI middleware."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Accepts `X-Request-ID` (visible ASCII, at most 128 characters) or makes one, and echoes it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if ID.fullmatch(given) else uuid.uuid4().hex
        logs.request_id.set(request_id)
        status = GONE
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
                add_safe_headers(message)
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            log.exception("the request failed")
            # The answer has begun, so only closing the connection tells of the failure.
            if status != GONE:
                raise
            await unexpected()(scope, receive, send_with_id)
        finally:
            self._tell(scope, status, time.perf_counter() - started)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        problem = scope.get("state", {}).get("problem")
        self._metrics.observe_request(route, status, seconds, problem)
        method, ms = scope["method"], round(1e3 * seconds, 1)
        fields = {"method": method, "route": route, "status": status, "ms": ms, "problem": problem}
        # The path is quoted because it may hold a line break.
        log.info("%s %s %d %.1f ms", method, quote(scope["path"]), status, ms, extra=fields)


# The policy has no default-src, because /docs loads its script from another host; / has its own policy.
POLICY = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; object-src 'none'"
HEADERS = {
    b"cache-control": b"no-store",
    b"content-security-policy": POLICY.encode(),
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}


def add_safe_headers(start: Message) -> None:
    """Adds the security headers that are missing to an `http.response.start` message."""
    said = {name.lower() for name, _ in start["headers"]}
    start["headers"] = [*start["headers"], *(pair for pair in HEADERS.items() if pair[0] not in said)]
