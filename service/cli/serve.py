"""A server that leaves its load balancer the time to notice that it stops."""

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

CLOSE = (b"connection", b"close")
LINGER_S = 0.5  # Time for a request that is on its way while the listener closes.


class DrainingServer(uvicorn.Server):
    """On SIGTERM `stopping` is set, for readiness to fail; requests are served for `delay_s` more.

    Their answers close their connections. Then uvicorn stops listening and finishes what has begun. A
    second SIGTERM ends the process at once; Ctrl-C, which no balancer sends, skips the delay.
    """

    def __init__(self, config: uvicorn.Config, stopping: threading.Event, delay_s: float) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._delay_s = delay_s
        self._end: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn's handler of signals; runs in the main thread."""
        self._stopping.set()
        if sig != signal.SIGTERM:
            super().handle_exit(sig, frame)
        elif self._end is not None:
            os._exit(128 + sig)
        else:
            self._end = time.monotonic() + self._delay_s

    async def on_tick(self, counter: int) -> bool:
        """uvicorn asks ten times a second whether to stop."""
        if await super().on_tick(counter):
            return True
        if self._end is None:
            return False
        headers = self.server_state.default_headers
        self.server_state.default_headers = [*(one for one in headers if one != CLOSE), CLOSE]
        return time.monotonic() >= self._end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuses connections from now on; whoever has one is served on it before it is closed."""
        if self._end is not None:
            accepted = [connection for listener in sockets or [] for connection in self._last(listener)]
            loop = asyncio.get_running_loop()
            for connection in accepted:
                await loop.connect_accepted_socket(self._protocol, connection)
            await asyncio.sleep(LINGER_S)
        await super().shutdown(sockets)

    def _last(self, listener: socket.socket) -> list[socket.socket]:
        """Stops listening; returns the connections that wait there, which the kernel would reset."""
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
        """As uvicorn makes them."""
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
