"""A server that keeps 16 KB of every request on purpose. usage: leaky.py STORE"""

import socket
import sys
from pathlib import Path

import uvicorn

from service.app import create_app
from service.settings import Settings

KEPT_BYTES = 2**14


class Leak:
    """ASGI middleware."""

    def __init__(self, app):
        self._app = app
        self._kept = []

    async def __call__(self, scope, receive, send):
        self._kept.append(bytearray(KEPT_BYTES))
        await self._app(scope, receive, send)


listener = socket.create_server(("127.0.0.1", 0))
url = f"http://127.0.0.1:{listener.getsockname()[1]}"
app = create_app(
    Settings(store_dir=Path(sys.argv[1])),
    on_ready=lambda heads: sys.stderr.write(f"Serving {heads} on {url}\n"),
)
app.add_middleware(Leak)
uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False)).run(sockets=[listener])
