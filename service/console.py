"""What people see: a bar or plain lines for long steps, and tables.

It imports rich when there is something to show: a server starts sooner without.
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
    """One line for the person who runs the command."""
    print(text, file=sys.stderr, flush=True)


def track(steps: Iterable[T], total: int, doing: str) -> Iterator[T]:
    """Yields from `steps`, showing how far it is."""
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
    """What `steps` returns, showing how far it is: it yields after each of `total` steps."""
    returned: list[T] = []

    def run() -> Iterator[None]:
        returned.append((yield from steps))

    for _ in track(run(), total, doing):
        pass
    return returned[0]


@contextmanager
def timed(seconds: float, doing: str) -> Iterator[Callable[[], None]]:
    """Shows how much of `seconds` has passed, and only when the function it gives is called.

    In between nothing is drawn, and nothing that is being measured is disturbed.
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


MIN_WIDTH = 200  # a narrow terminal breaks lines; figures are never cut


def wide_console() -> "Console":
    """Prints to stdout what it is given: no colours by guess, no markup."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    console.width = max(console.width, MIN_WIDTH)
    return console


def columns(first: str, *others: str, left: Collection[str] = ()) -> "Table":
    """An empty table; numbers stand right, `first` and the columns named in `left` do not."""
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
