"""The service on Ray Serve: every replica is the whole application, on the CPUs that Ray gave it.

Ray's proxies speak HTTP. How many replicas there are, and with which settings, is for serve.yaml to say.
"""

import asyncio
import logging
import math

import ray
from fastapi import FastAPI
from ray import serve
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import logs
from service.api.context import Context
from service.app import create_app
from service.errors import NotReady
from service.settings import Settings

POLL_S = 0.1


def build() -> FastAPI:
    """The application of a replica; Ray calls it in the replica's process."""
    settings = Settings()
    handler = logs.handler(is_json=settings.log_format == "json")
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 0)
    app = create_app(settings.model_copy(update={"threads": settings.threads or math.ceil(cpus)}))
    app.add_middleware(leave_request_id)
    return app


def leave_request_id(app: ASGIApp) -> ASGIApp:
    """Leaves `X-Request-ID` to Ray's proxy, which adds it to every answer; the id is the same."""

    async def left(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_without(message: Message) -> None:
            if message["type"] == "http.response.start":
                del MutableHeaders(scope=message)["X-Request-ID"]
            await send(message)

        await app(scope, receive, send_without)

    return left


@serve.deployment
@serve.ingress(build)
class Heads:
    """A replica gets no requests before its heads are ready, and is replaced where they never are."""

    def __init__(self) -> None:
        self._has_been_ready = False

    async def check_health(self) -> None:
        """Ray asks before it sends any traffic, and regularly; it replaces a replica that raises.

        A restart does not mend a store: of heads that go missing later, /readyz tells.
        """
        context: Context = self.app.state.context
        while context.heads.is_loading:
            await asyncio.sleep(POLL_S)
        if not self._has_been_ready and (missing := context.missing()):
            raise NotReady(" ".join(missing))
        self._has_been_ready = True


app = Heads.bind()
