"""Prints a report: as a table on a terminal, else in plain columns."""

from rich.table import Table

from service.benchmark.report import MeasuredHead, Report
from service.console import columns, show_table, wide_console


def show_report(report: Report) -> None:
    """Prints the report to stdout."""
    console = wide_console()
    for table in (_latency(report), _memory(report), _ratios(report)):
        show_table(console, table)
    for head in report.heads:
        if head.memory.reason:
            console.print(f"{_name(head)[0]}: {head.memory.reason}")
        if head.computes_in != head.precision:
            console.print(
                f"{_name(head)[0]}: this processor has no {head.precision}; it computes in "
                f"{head.computes_in}, and is no faster for it"
            )
    machine = report.machine
    console.print(
        f"{report.rounds} rounds in {report.seconds:.0f} s on {machine.host}: {machine.cpu}, "
        f"{report.threads} threads"
    )


def _latency(report: Report) -> Table:
    names = ("batch", "n", "p50 ms", "p90", "p99", "stdev", "images/s", "first ms", "load ms")
    table = columns("head", "engine", *names, left=["engine"])
    for head in report.heads:
        for row in head.latency:
            figures = (
                row.p50_ms,
                row.p90_ms,
                row.p99_ms,
                row.stdev_ms,
                row.images_per_s,
                row.first_call_ms,
            )
            table.add_row(
                *_name(head),
                str(row.batch_size),
                str(row.n),
                *(f"{figure:.1f}" for figure in figures),
                f"{head.load_ms:.0f}",
            )
    return table


def _memory(report: Report) -> Table:
    figures = ("weights", "file", "resident", "anonymous", "file_backed", "peak", "marginal")
    table = columns(
        "head", "engine", *(f"{name.replace('_', '-')} MB" for name in figures), left=["engine"]
    )
    for head in report.heads:
        values = [getattr(head.memory, f"{name}_mb") for name in figures]
        table.add_row(*_name(head), *("-" if value is None else f"{value:.1f}" for value in values))
    return table


def _ratios(report: Report) -> Table:
    table = columns("ratio of medians", "batch", "ratio", "95 % interval")
    for row in report.ratios:
        pair = f"{row.head} {row.engine} / {row.to_head} {row.to_engine}"
        interval = "too few rounds" if row.low is None else f"{row.low:.3f} to {row.high:.3f}"
        table.add_row(pair, str(row.batch_size), f"{row.ratio:.3f}", interval)
    return table


def _name(head: MeasuredHead) -> tuple[str, str]:
    engine = head.engine if head.computes_in in (None, "f32") else f"{head.engine} {head.computes_in}"
    return f"{head.head} v{head.version}", engine
