"""`resnet-heads serve`: runs the server, and drains it on SIGTERM so that load balancers notice."""

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from service import logs
from service.app import create_app
from service.console import say
from service.errors import CommandError, reason_of
from service.settings import Settings

log = logging.getLogger(__name__)

EXAMPLE = Path("examples/red-top-left.jpg")
UNREAD_S = 60.0
CLOSE = (b"connection", b"close")
LINGER_S = 0.5  # Time for a request that is on its way while the listener closes.


def serve(settings: Settings) -> None:
    """Serves until a signal ends it. Raises CommandError if it cannot listen."""
    handler = logs.handler(is_json=settings.log_format == "json")
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    listener = bound(settings.host, settings.port)
    url = url_of(*listener.getsockname()[:2]) + settings.root_path
    stopping = threading.Event()
    app = create_app(settings, on_ready=lambda heads: _announce(url, heads, settings), stopping=stopping)
    # uvicorn raises these signals again once it has stopped.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    config = uvicorn.Config(
        app,
        root_path=settings.root_path.rstrip("/"),
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout_s),
        access_log=False,
        server_header=False,
        log_level="warning",
        log_config=None,
    )
    DrainingServer(config, stopping, settings.drain_delay_s).run(sockets=[listener])


def bound(host: str, port: int, unread_s: float = UNREAD_S) -> socket.socket:
    """Returns a socket that is bound, on which uvicorn will listen. Raises CommandError.

    On Linux a client that reads nothing of its answer for `unread_s` is disconnected (TCP_USER_TIMEOUT).
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1e3 * unread_s))
        listener.bind(address)
    except UnicodeError as exc:  # The idna codec raises it for labels that are empty or too long.
        raise CommandError(f"Host {host!r} is not a host's name.") from exc
    except OSError as exc:
        raise CommandError(f"Cannot listen on host {host!r}, port {port}: {reason_of(exc)}.") from exc
    return listener


def url_of(host: str, port: int) -> str:
    """The URL of an address: IPv6 in brackets, with the `%` of a zone escaped (RFC 6874)."""
    address = f"[{host.replace('%', '%25')}]" if ":" in host else host
    return f"http://{address}:{port}"


def _announce(url: str, heads: list[str], settings: Settings) -> None:
    """Prints the server's URL, and a command that can be pasted."""
    serving = f"Serving {', '.join(heads)} on {url}"
    if settings.log_format == "json":  # A program reads this log, and needs no command to paste.
        log.info(serving)
        return
    say(serving)
    head = "flatten" if "flatten" in heads else heads[0]
    if settings.api_keys or settings.api_keys_file:
        say(f"Try: curl -H 'X-API-Key: ...' '{url}/heads'")
    elif EXAMPLE.exists():
        say(f"Try: curl --data-binary @{EXAMPLE} '{url}/predict?head={head}'")
    else:
        say(f"Try: curl '{url}/heads/{head}'")


class DrainingServer(uvicorn.Server):
    """A server that on SIGTERM sets `stopping`, so that readiness fails, and serves for `delay_s` more.

    Answers in that time close their connections. Then uvicorn stops listening and finishes the requests
    that have begun. A second SIGTERM ends the process at once. Ctrl-C, which no load balancer sends,
    skips the delay.
    """

    def __init__(self, config: uvicorn.Config, stopping: threading.Event, delay_s: float) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._delay_s = delay_s
        self._end: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handles signals in place of uvicorn; runs in the main thread."""
        self._stopping.set()
        if sig != signal.SIGTERM:
            super().handle_exit(sig, frame)
        elif self._end is not None:
            os._exit(128 + sig)
        else:
            self._end = time.monotonic() + self._delay_s

    async def on_tick(self, counter: int) -> bool:
        """Returns whether to stop; uvicorn calls it ten times a second."""
        if await super().on_tick(counter):
            return True
        if self._end is None:
            return False
        headers = self.server_state.default_headers
        self.server_state.default_headers = [*(one for one in headers if one != CLOSE), CLOSE]
        return time.monotonic() >= self._end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuses new connections, and serves open ones before it closes them."""
        if self._end is not None:
            accepted = [connection for listener in sockets or [] for connection in self._last(listener)]
            loop = asyncio.get_running_loop()
            for connection in accepted:
                await loop.connect_accepted_socket(self._protocol, connection)
            await asyncio.sleep(LINGER_S)
        await super().shutdown(sockets)

    def _last(self, listener: socket.socket) -> list[socket.socket]:
        """Stops listening. Returns the connections in its backlog, which the kernel would reset."""
        # The duplicate keeps waiting connections when uvicorn closes its listener.
        twin = listener.dup()
        for server in self.servers:
            server.close()
        twin.setblocking(False)
        waiting = []
        with twin, contextlib.suppress(BlockingIOError):
            while True:
                waiting.append(twin.accept()[0])
        return waiting

    def _protocol(self) -> asyncio.Protocol:
        """Creates a connection's protocol as uvicorn does."""
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
