"""The thread that loads heads, and goes on looking for what is new in their store."""

import logging
import threading
from collections.abc import Callable

from service.serving import host
from service.serving.heads import Heads

log = logging.getLogger(__name__)

RETRY_S = 10.0
STOP_S = 3.0


class Watch:
    """Looks at the store every `poll_s`, never again where that is 0, until `stopping` is set.

    What failed for want of memory or by an I/O error is tried again after RETRY_S at most, also where
    `poll_s` is 0. `on_ready` gets the names of the heads whenever one can answer and none could before;
    it is called in this thread.
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
        """Begins to load."""
        self._thread.start()

    def join(self) -> None:
        """Waits, once `stopping` is set, for the thread to leave the version it is opening."""
        self._thread.join(STOP_S)
        if self._thread.is_alive():
            log.warning("a version is still being opened; it is left at that")

    def _run(self) -> None:
        self._look(self._heads.load)
        while not self._stopping.wait(self._pause_s()):
            self._look(self._heads.refresh)

    def _pause_s(self) -> float | None:
        """None: for ever."""
        if self._heads.has_transient_failure():
            return min(self._poll_s or self._retry_s, self._retry_s)
        return self._poll_s or None

    def _look(self, at_store: Callable[[], bool | None]) -> None:
        try:
            if at_store() is not False:
                host.give_back()
        except Exception as exc:
            self._complain(exc)
            return
        self._error = None
        self._tell()

    def _tell(self) -> None:
        """Says whether heads serve, and why not, when that changes."""
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
            log.exception("heads are ready, and nobody could be told")

    def _complain(self, exc: Exception) -> None:
        """Logs why the heads could not be loaded, or the store not looked at, when that changes."""
        error, before = repr(exc), self._error
        self._error = error
        if error == before or self._stopping.is_set():
            return
        if self._heads.trouble:
            log.error("not ready: %s", self._heads.trouble, exc_info=exc)
        else:
            log.error("the store could not be looked at; what serves goes on serving", exc_info=exc)
