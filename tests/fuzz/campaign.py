"""Sends hostile requests to an application, each flight with an honest one in its midst, and judges."""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from fastapi import FastAPI
from fuzz.in_process import Answer, ask, started
from fuzz.kinds import hostile
from fuzz.oracle import fault
from fuzz.requests import Request
from process import resident_mb

from service.serving.host import give_back

FLIGHT = 8
SLOW_S = 1.0
WARM_UP = 0.2  # of all flights; what they fill is kept for good


@dataclass
class Figures:
    """What came of a campaign."""

    statuses: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    slowest: str = ""
    growth_mb: float = 0.0
    seconds: float = 0.0

    @property
    def requests(self) -> int:
        return sum(self.statuses.values())

    def __str__(self) -> str:
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        return (
            f"{self.requests} hostile requests in {self.seconds:.0f} s ({statuses}); "
            f"slowest {self.slowest_s:.2f} s ({self.slowest}); memory {self.growth_mb:+.1f} MB; "
            f"{len(self.faults)} faults"
        )


def needed_mb() -> float:
    """Physical memory that this process needs, in millions of bytes."""
    gc.collect()
    give_back()
    return resident_mb()


async def run(
    app: FastAPI, honest: Request, expected: str, seed: int, numbers: Iterable[int]
) -> Figures:
    """Requests of those numbers, eight at a time beside an `honest` one that must get `expected`."""
    figures, began, before = Figures(), time.monotonic(), 0.0
    numbers = list(numbers)
    flights = [numbers[at : at + FLIGHT] for at in range(0, len(numbers), FLIGHT)]
    async with started(app):
        for at, flight in enumerate(flights):
            if at == int(WARM_UP * len(flights)):
                before = needed_mb()
            await _fly(app, honest, expected, seed, flight, figures)
        figures.growth_mb = needed_mb() - before
    figures.seconds = time.monotonic() - began
    return figures


async def _fly(
    app, honest: Request, expected: str, seed: int, flight: list[int], figures: Figures
) -> None:
    made = [(f"seed {seed}, number {number}", *hostile(seed, number)) for number in flight]
    requests = [request for _, _, request in made]
    middle = len(requests) // 2
    among = [*requests[:middle], honest, *requests[middle:]]
    answers = await asyncio.gather(*(ask(app, request) for request in among))
    if not _is_right(answers.pop(middle), expected):
        figures.faults.append(f"the neighbour of {flight} was not answered right")
    for (name, kind, request), answer in zip(made, answers, strict=True):
        figures.kinds[kind] += 1
        figures.statuses[answer.status] += 1
        if wrong := fault(request, answer):
            figures.faults.append(f"{name}, {kind}: {wrong}")
        seconds = answer.seconds
        if seconds > SLOW_S:  # it may have waited for the others
            seconds = (await ask(app, request)).seconds
        if seconds > figures.slowest_s:
            figures.slowest_s, figures.slowest = seconds, f"{name}, {kind}"
        if seconds > SLOW_S:
            figures.faults.append(f"{name}, {kind}: it took {seconds:.2f} s")


def _is_right(answer: Answer, expected: str) -> bool:
    return answer.status == 200 and expected.encode() in answer.body
