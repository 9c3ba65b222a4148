"""Whose turn it is to compute: that of requests, or of a version that is being checked and warmed."""

import threading
import time

YIELD_S = 0.001  # whoever waits gets a lock that is free so long; a lock alone lets its last holder win


class Turn:
    """A context manager: two passes at once would take each other's cores, and wait at every layer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def let_others(self) -> None:
        """To be called between two turns of one's own."""
        time.sleep(YIELD_S)
