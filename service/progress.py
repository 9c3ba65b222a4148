"""How long steps are shown: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

T = TypeVar("T")

LINE_EVERY_S = 10.0


def say(text: str) -> None:
    """One line for the person who runs the command."""
    print(text, file=sys.stderr, flush=True)


def track(steps: Iterable[T], total: int, doing: str) -> Iterator[T]:
    """Yields from `steps`, showing how far it is."""
    console = Console(stderr=True)
    if console.is_terminal:
        with Progress(console=console, transient=True) as progress:
            yield from progress.track(steps, total=total, description=doing)
        return
    say(f"{doing} ...")
    told = time.monotonic()
    for done, step in enumerate(steps, 1):
        yield step
        if time.monotonic() - told > LINE_EVERY_S:
            told = time.monotonic()
            say(f"{doing}: {done} of {total}")
