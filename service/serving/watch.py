"""The thread that loads the heads, and polls the store for new versions."""

import logging
import threading
from collections.abc import Callable

from service.serving import host
from service.serving.heads import Heads

log = logging.getLogger(__name__)

RETRY_S = 10.0
STOP_S = 3.0
WARM_AFTER_S = 0.3  # Whoever waited for the start is answered before larger batches are warmed.


class Watch:
    """Polls the store every `poll_s` seconds, or not at all if that is 0, until `stopping` is set.

    Loads that failed for lack of memory or by an I/O error are retried after RETRY_S at most, even if
    `poll_s` is 0. The thread calls `on_ready` with the heads' names when one serves and none did before.
    """

    def __init__(
        self,
        heads: Heads,
        on_ready: Callable[[list[str]], None],
        poll_s: float,
        stopping: threading.Event,
        retry_s: float = RETRY_S,
    ) -> None:
        self._heads = heads
        self._on_ready = on_ready
        self._poll_s = poll_s
        self._stopping = stopping
        self._retry_s = retry_s
        self._error: str | None = None
        self._missing: list[str] | None = None
        # A daemon thread: a read that hangs must not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name="loading", daemon=True)

    def start(self) -> None:
        """Starts the thread, which begins to load."""
        self._thread.start()

    def join(self) -> None:
        """Waits for the thread to finish the version that it is opening, once `stopping` is set."""
        self._thread.join(STOP_S)
        if self._thread.is_alive():
            log.warning("a version is still being opened; the service stops without it")

    def _run(self) -> None:
        self._look(self._heads.load)
        while not self._stopping.wait(self._pause_s()):
            self._look(self._heads.refresh)

    def _pause_s(self) -> float | None:
        """Seconds until the next look; None means to wait until the service stops."""
        if self._heads.has_transient_failure():
            return min(self._poll_s or self._retry_s, self._retry_s)
        return self._poll_s or None

    def _look(self, at_store: Callable[[], bool | None]) -> None:
        try:
            has_changed = at_store() is not False
        except Exception as exc:
            self._complain(exc)
            return
        self._error = None
        self._tell()
        if has_changed:
            self._warm_up()
            host.give_back()

    def _warm_up(self) -> None:
        self._stopping.wait(WARM_AFTER_S)
        try:
            self._heads.warm_up()
        except Exception:
            log.exception("larger batches could not be warmed; the heads serve smaller ones")

    def _tell(self) -> None:
        """Calls `on_ready` when heads begin to serve, and logs why none serves; only on a change."""
        missing, before = self._heads.missing(()), self._missing
        self._missing = missing
        if missing == before:
            return
        if missing:
            log.error("not ready: %s", " ".join(missing))
            return
        try:
            self._on_ready(sorted(self._heads.serving()))
        except Exception:
            log.exception("heads are ready, but on_ready failed")

    def _complain(self, exc: Exception) -> None:
        """Logs an error of loading or refreshing, unless it is the same as before."""
        error, before = repr(exc), self._error
        self._error = error
        if error == before or self._stopping.is_set():
            return
        if self._heads.trouble:
            log.error("not ready: %s", self._heads.trouble, exc_info=exc)
        else:
            log.error("the store could not be read; the loaded heads go on serving", exc_info=exc)
