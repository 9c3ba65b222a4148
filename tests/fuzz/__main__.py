"""Attacks for SECONDS, 60 by default, and says what it found. usage: python -m fuzz [SECONDS [SEED]]"""

import asyncio
import itertools
import logging
import secrets
import sys
import time

from fakes import picture
from fuzz.applications import Crowded, on_fakes
from fuzz.campaign import run
from fuzz.requests import Request

CHUNK = 2000


def main(seconds: float, seed: int) -> int:
    """The number of faults."""
    logging.disable()
    honest, end, faults = (
        Request("/predict", b"top_k=1", body=picture("blue")),
        time.monotonic() + seconds,
        0,
    )
    for start in itertools.count(0, CHUNK):
        numbers = range(start, start + CHUNK)
        figures = asyncio.run(run(on_fakes(Crowded()), honest, '"label":"blue"', seed, numbers))
        print(f"seed {seed}, from number {start}: {figures}")
        for told in figures.faults:
            print(f"  {told}")
        faults += len(figures.faults)
        if time.monotonic() > end:
            return faults
    return faults


if __name__ == "__main__":
    given = [*sys.argv[1:], *("60", str(secrets.randbelow(10**6)))[len(sys.argv) - 1 :]]
    sys.exit(main(float(given[0]), int(given[1])) > 0)
