"""Output for people: progress bars or plain lines for long steps, and tables.

rich is imported only on first use, because a server starts faster without it.
"""

import sys
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

T = TypeVar("T")

LINE_EVERY_S = 10.0


def say(text: str) -> None:
    """Prints one line to stderr."""
    print(text, file=sys.stderr, flush=True)


def track(steps: Iterable[T], total: int, doing: str) -> Iterator[T]:
    """Yields from `steps`, and shows the progress."""
    from rich.console import Console
    from rich.progress import Progress

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


def finish(steps: Generator[None, None, T], total: int, doing: str) -> T:
    """Runs `steps`, which yield after each of `total` steps; shows the progress, returns the result."""
    returned: list[T] = []

    def run() -> Iterator[None]:
        returned.append((yield from steps))

    for _ in track(run(), total, doing):
        pass
    return returned[0]


@contextmanager
def timed(seconds: float, doing: str) -> Iterator[Callable[[], None]]:
    """Yields a function that shows how much of `seconds` has passed.

    Nothing is drawn between its calls, so that measurements are not disturbed.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    started = told = time.monotonic()

    def tell() -> None:
        nonlocal told
        if time.monotonic() - told > LINE_EVERY_S:
            told = time.monotonic()
            say(f"{doing}: {told - started:.0f} of {seconds:g} s")

    if not console.is_terminal:
        say(f"{doing} ...")
        yield tell
        return
    with Progress(console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task(doing, total=seconds)
        yield lambda: progress.update(task, completed=time.monotonic() - started, refresh=True)


MIN_WIDTH = 200  # A narrow terminal wraps the lines instead of cutting figures off.


def wide_console() -> "Console":
    """A console for stdout, at least MIN_WIDTH wide, without highlighting or markup."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    console.width = max(console.width, MIN_WIDTH)
    return console


def columns(first: str, *others: str, left: Collection[str] = ()) -> "Table":
    """An empty table; columns are right-aligned, except `first` and those in `left`."""
    from rich.table import Table

    table = Table(pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="left" if name in left else "right")
    return table


def show_table(console: "Console", table: "Table") -> None:
    """Prints a table, unless it is empty."""
    from rich import box

    if table.row_count:
        table.box = box.SIMPLE_HEAD if console.is_terminal else None
        console.print(table)
