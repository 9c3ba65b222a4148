"""How tests wait: for what must come to be, and never for a time that ought to be enough."""

import time

PATIENCE_S = 60  # for an event that must come; only a test that fails waits so long


def wait_until(condition, seconds=PATIENCE_S, every_s=0.005) -> None:
    """Polls until `condition()` holds; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(every_s)
