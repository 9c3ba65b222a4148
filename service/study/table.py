"""Prints the study on a terminal."""

from rich.table import Table

from service.console import columns, show_table, wide_console
from service.study.figures import Figures, of_heads, of_road
from service.study.study import Study


def show_study(study: Study) -> None:
    """Prints the study to stdout."""
    console = wide_console()
    show_table(console, _table(of_heads(study)))
    for line in (*study.notes, "", *study.pairs, *study.pair_notes):
        console.print(str(line), soft_wrap=True)
    for road in study.roads:
        console.print()
        show_table(console, _table(of_road(road)))


def _table(figures: Figures) -> Table:
    table = columns(*figures.names)
    for row in figures.rows:
        table.add_row(*row)
    return table
