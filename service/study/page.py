"""The study as one HTML file that needs no network; its Content-Security-Policy forbids all requests."""

import base64
import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from service.errors import CommandError, reason_of
from service.store.publish import check_writable, staged
from service.study import charts, markup
from service.study.charts import Chart
from service.study.figures import of_heads, of_road
from service.study.rows import Candidate
from service.study.study import Study

LIBRARY = "chart.umd.js"
LICENCE = "chart.umd.LICENSE"


def check(path: Path) -> None:
    """Raises CommandError if `write_page` would fail, as far as that is known before the study."""
    if not path.parent.is_dir():
        raise CommandError(f"There is no folder {path.parent} to write {path.name} to.")
    if path.is_dir():
        raise CommandError(f"{path} cannot be written: it is a folder.")
    with _writing(path):
        check_writable(path.parent)


def write_page(study: Study, path: Path) -> None:
    """Writes the page with an atomic rename. Raises CommandError if that fails."""
    check(path)
    text = render(study)
    with _writing(path), staged(path.parent) as folder:
        file = folder / "page.html"
        file.write_text(text, "utf-8", newline="\n")
        file.replace(path)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise CommandError(f"{path} cannot be written: {reason_of(exc)}.") from exc


def render(study: Study) -> str:
    """Renders the page. Its policy runs only scripts whose hashes it lists, none from a label."""
    body, drawn = _body(study)
    style = _asset("theme.css") + _own("page.css")
    script = _asset("plot.js") + _own("page.js")
    library = _without_source_map(_asset(LIBRARY))
    return Template(_own("page.html")).substitute(
        policy="; ".join(
            (
                "default-src 'none'",
                f"script-src {_hash(library)} {_hash(script)}",
                f"style-src {_hash(style)}",
                "img-src data:",
                "base-uri 'none'",
                "form-action 'none'",
            )
        ),
        style=style,
        body=body,
        figures=_json({"heads": [row.head for row in study.rows], "charts": drawn}),
        library=library,
        script=script,
        licence=_asset(LICENCE),
    )


def _body(study: Study) -> tuple[str, list[dict[str, object]]]:
    """The HTML of the body, and the charts in the order of their canvases."""
    parts = [
        markup.html_table(of_heads(study), "The heads of the store"),
        markup.paragraphs(study.notes),
    ]
    if study.pairs or study.pair_notes:
        parts += [
            markup.heading("Pair by pair"),
            markup.listing(study.pairs),
            markup.paragraphs(study.pair_notes),
        ]
    drawn: list[Chart] = []
    for tested in study.groups:
        parts += _group(tested, study, drawn)
    return "\n".join(parts), [dataclasses.asdict(chart) for chart in drawn]


def _group(tested: Sequence[Candidate], study: Study, drawn: list[Chart]) -> list[str]:
    """The HTML for heads that were tested on the same pictures; appends their charts to `drawn`."""
    heads = ", ".join(one.head for one in tested)
    parts = [markup.heading(f"On {len(tested[0].experiment.truth)} test pictures: {heads}")]
    roads = [road for road in study.roads if road[0].candidate in tested]
    for chart in charts.of(tested, roads):
        parts.append(markup.figure(len(drawn), chart))
        drawn.append(chart)
    parts += [
        markup.html_table(of_road(road), "The pooling road, from Flatten to GAP") for road in roads
    ]
    parts += [markup.confusion_table(one) for one in tested]
    return parts


def _json(value: object) -> str:
    """Encodes JSON without characters that are special in HTML."""
    text = json.dumps(value, allow_nan=False)
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _without_source_map(script: str) -> str:
    """Removes the link to the source map, which developer tools would try to fetch."""
    return script.partition("\n//# sourceMappingURL=")[0]


def _own(name: str) -> str:
    return files("service.study").joinpath(name).read_text("utf-8")


def _asset(name: str) -> str:
    return files("service").joinpath("assets", name).read_text("utf-8")
