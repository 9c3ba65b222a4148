"""Until when an answer is wanted."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Deadline:
    """A point on the monotonic clock, and the seconds it allowed at first."""

    timeout_s: float
    at: float

    @classmethod
    def after(cls, timeout_s: float) -> "Deadline":
        return cls(timeout_s, time.monotonic() + timeout_s)

    def left_s(self) -> float:
        """Seconds until then; negative once it has passed."""
        return self.at - time.monotonic()
