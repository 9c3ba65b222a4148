"""Prints what was measured, an input a row."""

from service.console import columns, show_table, wide_console
from service.lab.checking.findings import Decision, told
from service.lab.checking.measured import Measured

HEADINGS = ("preprocessing", "resize", "EXIF", "pictures", "right", "log loss", "behind the best (95 %)")


def show_measured(measured: Measured, decision: Decision, was: str) -> None:
    """Prints a table to stdout, the best first, and what follows from it."""
    console = wide_console()
    table = columns(*HEADINGS, "", left=(*HEADINGS[:3], ""))
    best = measured.ranked()[0]
    gaps = {one: measured.behind(best, one) for one in measured.rows}
    for one in sorted(gaps, key=lambda one: gap.mean if (gap := gaps[one]) else 0):
        gap, score = gaps[one], measured.score(one)
        table.add_row(
            told(one.preprocessing),
            one.resize,
            one.exif,
            str(score.images),
            f"{score.accuracy:.1%}",
            f"{score.loss:.2f}",
            f"{gap.mean:.2f} [{gap.low:.2f}, {gap.high:.2f}]" if gap and gap.low is not None else "",
            "chosen" if one == decision.chosen else was if one == measured.assumed else "",
        )
    show_table(console, table)
    for line in decision.sentences(was):
        console.print(line, soft_wrap=True)
