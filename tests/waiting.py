"""How tests wait: for what must come to be, and never for a time that ought to be enough."""

import asyncio
import time

PATIENCE_S = 60  # for an event that must come; only a test that fails waits so long


def wait_until(condition, seconds=PATIENCE_S, every_s=0.005) -> None:
    """Polls until `condition()` holds; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(every_s)


async def until(condition, seconds=PATIENCE_S, every_s=0.001) -> None:
    """As `wait_until`, on an event loop, which goes on meanwhile."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(every_s)
