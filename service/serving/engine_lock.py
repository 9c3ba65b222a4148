"""A lock between the computation of requests and the check and warm-up of a new version."""

import threading
import time

YIELD_S = 0.001  # threading.Lock is not fair: a sleep after releasing it lets a waiting thread have it.


class EngineLock:
    """A context manager for one pass of the engine: two at once would wait for cores at every layer."""

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
        """Sleeps after a pass, for as long as it took if another thread waits for the lock."""
        time.sleep(max(self._owed_s, YIELD_S))
