"""A server that leaves its load balancer the time to notice that it stops."""

import os
import signal
import threading
import time
from types import FrameType

import uvicorn

CLOSE = (b"connection", b"close")


class DrainingServer(uvicorn.Server):
    """On SIGTERM `stopping` is set, for readiness to fail; requests are served for `delay_s` more.

    Their answers close their connections. Then uvicorn stops listening and finishes what has begun. A
    second SIGTERM ends the process at once; Ctrl-C, which no balancer sends, skips the delay.
    """

    def __init__(self, config: uvicorn.Config, stopping: threading.Event, delay_s: float) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._delay_s = delay_s
        self._end = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn's handler of signals; runs in the main thread."""
        if sig != signal.SIGTERM:
            super().handle_exit(sig, frame)
        elif self._stopping.is_set():
            os._exit(128 + sig)
        else:
            self._end = time.monotonic() + self._delay_s
            self._stopping.set()

    async def on_tick(self, counter: int) -> bool:
        """uvicorn asks ten times a second whether to stop."""
        if await super().on_tick(counter):
            return True
        if not self._stopping.is_set():
            return False
        headers = self.server_state.default_headers
        self.server_state.default_headers = [*(one for one in headers if one != CLOSE), CLOSE]
        return time.monotonic() >= self._end
