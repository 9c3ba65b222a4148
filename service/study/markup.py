"""The HTML of the study's parts. All text is escaped in this module, and in no other."""

from collections.abc import Iterable, Sequence
from html import escape

from service.study.charts import Chart
from service.study.figures import Figures
from service.study.rows import Candidate

SHADES = 10


def heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def paragraphs(lines: Iterable[object]) -> str:
    return "".join(f"<p>{escape(str(line))}</p>" for line in lines)


def listing(lines: Iterable[object]) -> str:
    """An HTML list, or an empty text if there are no lines."""
    items = "".join(f"<li>{escape(str(line))}</li>" for line in lines)
    return items and f"<ul>{items}</ul>"


def html_table(figures: Figures, caption: str) -> str:
    """An HTML table; the first cell of each row is its header."""
    body = "".join(
        f"<tr>{_header('row', first)}{''.join(map(_cell, others))}</tr>"
        for first, *others in figures.rows
    )
    return _scrolling(caption, f"<tr>{_headers(figures.names)}</tr>", body)


def figure(number: int, chart: Chart) -> str:
    """A canvas for the script to draw on, and a table of the same figures."""
    rows = tuple(
        (series.name, f"{point.x:g}", f"{point.y:.4g}", _interval(point.low, point.high))
        for series in chart.series
        for point in series.points
    )
    figures = Figures(("series", chart.x, chart.y, "95 % interval"), rows)
    title = escape(chart.title)
    return (
        f'<figure><figcaption>{title}</figcaption><div class="canvas"><canvas id="chart-{number}" '
        f'role="img" aria-label="{title}; its figures are in the table that follows"></canvas></div>'
        f"<details><summary>Figures: {title}</summary>{html_table(figures, chart.title)}"
        "</details></figure>"
    )


def confusion_table(one: Candidate) -> str:
    """The confusion matrix: rows are true classes, columns predicted; shaded by share of the row."""
    labels = one.row.card.labels
    body = "".join(
        f"<tr>{_header('row', label)}{_shaded(counts)}</tr>"
        for label, counts in zip(labels, one.experiment.confusion, strict=True)
    )
    caption = f"{one.head}: rows are true classes, columns predicted ones"
    return _scrolling(caption, f"<tr>{_headers(('', *labels))}</tr>", body)


def _scrolling(caption: str, head: str, body: str) -> str:
    return (
        f'<div class="scrolls" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead>{head}</thead><tbody>{body}</tbody></table></div>"
    )


def _shaded(counts: Sequence[int]) -> str:
    total = sum(counts) or 1
    return "".join(f'<td class="shade-{round(SHADES * n / total)}">{n}</td>' for n in counts)


def _headers(names: Iterable[str]) -> str:
    return "".join(_header("col", name) if name else "<td></td>" for name in names)


def _header(scope: str, text: str) -> str:
    return f'<th scope="{scope}">{escape(text)}</th>'


def _cell(text: str) -> str:
    return f"<td>{escape(text)}</td>"


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.4g} to {high:.4g}"
