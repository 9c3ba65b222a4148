"""Tables for people: on a terminal with rules, plain columns elsewhere. It imports rich."""

from collections.abc import Collection

from rich import box
from rich.console import Console
from rich.table import Table

MIN_WIDTH = 200  # a narrow terminal breaks lines; figures are never cut


def wide_console() -> Console:
    """Prints to stdout what it is given: no colours by guess, no markup."""
    console = Console(highlight=False, markup=False)
    console.width = max(console.width, MIN_WIDTH)
    return console


def columns(first: str, *others: str, left: Collection[str] = ()) -> Table:
    """An empty table; numbers stand right, `first` and the columns named in `left` do not."""
    table = Table(pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="left" if name in left else "right")
    return table


def show_table(console: Console, table: Table) -> None:
    """Prints a table, unless it is empty."""
    if table.row_count:
        table.box = box.SIMPLE_HEAD if console.is_terminal else None
        console.print(table)
