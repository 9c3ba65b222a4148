"""Whose turn it is to compute: that of requests, or of a version that is being checked and warmed."""

import threading
import time

YIELD_S = 0.001  # whoever waits gets a lock that is free so long; a lock alone lets its last holder win


class Turn:
    """A context manager: two passes at once would take each other's cores, and wait at every layer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_wanted = False
        self._began = self._owed_s = 0.0

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self._is_wanted = True
            self._lock.acquire()
            self._is_wanted = False
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._owed_s = time.monotonic() - self._began if self._is_wanted else 0.0
        self._lock.release()

    def let_others(self) -> None:
        """To be called after a turn of one's own: where others wait, they get as long as it took."""
        time.sleep(max(self._owed_s, YIELD_S))
