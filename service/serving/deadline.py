"""The time until which an answer is wanted."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Deadline:
    """A time on the monotonic clock, and the timeout in seconds that led to it."""

    timeout_s: float
    at: float

    @classmethod
    def after(cls, timeout_s: float) -> "Deadline":
        return cls(timeout_s, time.monotonic() + timeout_s)

    def left_s(self) -> float:
        """Seconds until the deadline; negative once it has passed."""
        return self.at - time.monotonic()
