"""The page, as a parser reads it: nothing from outside, nothing run but ours, every figure there."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from experiment_records import TRUTH, experiment, measured, report, training
from fakes import publish, structure
from sklearn.metrics import confusion_matrix

import service
from service.errors import CommandError
from service.store.publish import publish_report
from service.study.page import render, write_page
from service.study.study import study_of

ASSETS = Path(service.__file__).parent / "assets"
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    '$body & "quoted" \'é\u2028',
)
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Elements as (tag, attributes, text); `text` is all text that is not script or style."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.elements = []
        self.text = ""
        self._open = []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self._open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag, "unbalanced"

    def handle_data(self, data):
        for _, _, texts in self._open:
            texts.append(data)
        if self._open and self._open[-1][0] not in {"script", "style"}:
            self.text += data

    def all(self, tag):
        return [(attributes, "".join(texts)) for name, attributes, texts in self.elements if name == tag]

    @property
    def figures(self):
        return json.loads(self.all("script")[0][1])

    @property
    def policy(self):
        content = next(a["content"] for a, _ in self.all("meta") if "http-equiv" in a)
        return dict(part.split(" ", 1) for part in content.split("; "))


@pytest.fixture
def study(bench):
    for head, wrong in {"flatten": [0, 4, 9], "gap": [1]}.items():
        publish(bench.store, head, training=training(experiment(wrong=wrong)), labels=HOSTILE)
    last = report(measured("flatten", 40, 400), measured("gap", 30, 300))
    publish_report(bench.store, last.machine.host, last.model_dump_json())
    return study_of(bench)


@pytest.fixture
def page(study):
    return Page(render(study))


def test_it_refers_to_nothing_outside_itself(page):
    for tag, attributes, _ in page.elements:
        assert not {"src", "srcset", "action", "style", "onclick"} & attributes.keys(), tag
        assert attributes.get("href", "data:,") == "data:,"
    for _, text in page.all("script") + page.all("style"):
        assert not re.search(
            r"sourceMappingURL|@import|url\(|\bfetch\(|XMLHttpRequest|importScripts", text
        )


def test_its_policy_allows_its_own_scripts_and_style_and_no_others(page):
    def hashes(elements):
        digests = (hashlib.sha256(text.encode()).digest() for _, text in elements)
        return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)

    data, *scripts = page.all("script")
    assert data[0]["type"] == "application/json"
    assert page.policy == {
        "default-src": "'none'",
        "script-src": hashes(scripts),
        "style-src": hashes(page.all("style")),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_hostile_labels_are_text_and_nothing_else(page):
    assert len(page.all("script")) == 3
    assert page.all("img") == []
    for label in HOSTILE:
        assert label in page.text


def test_even_a_heads_name_could_not_end_the_data(study):
    """The store refuses such names; the page does not rely on that."""
    row = study.rows[0]
    hostile = replace(row, card=row.card.model_copy(update={"head": HOSTILE[0]}))
    page = Page(render(replace(study, rows=(hostile, study.rows[1]))))
    assert len(page.all("script")) == 3
    assert page.figures["heads"] == [HOSTILE[0], "gap"]
    assert "<" not in page.all("script")[0][1]


def test_a_confusion_matrix_is_a_table_with_shaded_cells(page, study):
    table = next(text for _, text in page.all("table") if text.startswith("flatten: rows are true"))
    predicted = study.tested[0].experiment.predicted
    matrix = confusion_matrix(TRUTH, predicted)
    told = table.removeprefix("flatten: rows are true classes, columns predicted ones")
    for label in HOSTILE:
        told = told.replace(label, " ")
    assert "".join(told.split()) == "".join(map(str, matrix.ravel()))
    shades = [a["class"] for a, _ in page.all("td") if "class" in a][: matrix.size]
    shares = matrix / matrix.sum(axis=1, keepdims=True)
    assert shades == [f"shade-{share}" for share in np.round(10 * shares).astype(int).ravel()]


def test_every_shade_has_its_colour(page):
    style = page.all("style")[0][1]
    assert all(f".shade-{shade} " in style for shade in range(1, 11))


def test_every_chart_has_a_canvas_and_its_figures_as_a_table(page):
    charts = page.figures["charts"]
    assert [a["id"] for a, _ in page.all("canvas")] == [f"chart-{at}" for at in range(len(charts))]
    titles = {chart["title"] for chart in charts}
    assert {
        "Accuracy against latency",
        "Accuracy against memory",
        "Accuracy on shifted pictures",
    } < titles
    for (attributes, _), chart in zip(page.all("canvas"), charts, strict=True):
        assert attributes["aria-label"].startswith(chart["title"])
        table = next(text for _, text in page.all("table") if text.startswith(chart["title"]))
        for series in chart["series"]:
            assert series["name"] in table
            assert all(f"{point['y']:.4g}" in table for point in series["points"])


def test_drawn_figures_are_those_of_card_and_report(page, study):
    latency = page.figures["charts"][0]
    points = {series["name"]: series["points"] for series in latency["series"]}
    mean = 100 * np.mean([run.accuracy for run in study.tested[0].experiment.runs])
    for head, p50_ms in {"flatten": 40, "gap": 30}.items():
        assert points[head] == [{"x": p50_ms, "y": pytest.approx(mean), "low": 51, "high": 99}]


def test_the_table_the_pairs_and_the_notes_are_those_of_the_command(page, study):
    for line in (*study.notes, *study.pairs, *study.pair_notes):
        assert str(line) in page.text
    heads = page.all("table")[0][1]
    assert heads.startswith("The heads of the store")
    assert "gap v1*80.0" in heads


def test_heads_tested_on_other_pictures_are_drawn_apart(bench):
    average = structure("average", filter=(1, 1), stride=(1, 1))
    for group in ("1", "2"):
        for head, pooling in {"gap": structure(), "average": average}.items():
            told = training(experiment(data=group * 64))
            publish(bench.store, head + group, training=told, structure=pooling)
    page = Page(render(study_of(bench)))
    _, *headings = (text for _, text in page.all("h2"))
    assert headings == [f"On 10 test pictures: average{group}, gap{group}" for group in "12"]
    charts = page.figures["charts"]
    groups = [{series["head"][-1] for series in chart["series"] if series["head"]} for chart in charts]
    assert groups == [{"1"}] * (len(charts) // 2) + [{"2"}] * (len(charts) // 2)


def test_heads_without_experiments_make_a_page_too(bench):
    publish(bench.store, "imported")
    page = Page(render(study_of(bench)))
    assert page.figures["charts"] == []
    assert "imported v1" in page.text


def test_it_is_written_whole_over_an_older_one(study, tmp_path):
    path = tmp_path / "study.html"
    path.write_text("older")
    with path.open() as reader:
        write_page(study, path)
        assert reader.read() == "older", "who reads it meanwhile sees one or the other"
    assert path.read_bytes() == render(study).encode()
    assert [file.name for file in tmp_path.iterdir() if file.name != "store"] == ["study.html"]


@pytest.mark.parametrize(
    ("path", "told"), [("missing/study.html", "There is no folder"), ("store", "cannot be written")]
)
def test_a_place_that_takes_no_file_is_told(study, tmp_path, path, told):
    with pytest.raises(CommandError, match=told):
        write_page(study, tmp_path / path)


def test_the_library_is_the_one_its_readme_names():
    told = (ASSETS / "README.md").read_text()
    library = (ASSETS / "chart.umd.js").read_bytes()
    assert f"sha256 `{hashlib.sha256(library).hexdigest()}`" in told
    version = re.search(rb"Chart\.js v(\S+)", library)[1].decode()
    assert f"Chart.js {version}:" in told


def test_the_page_carries_the_librarys_licence(page):
    licence = (ASSETS / "chart.umd.LICENSE").read_text()
    assert licence.count("Permission is hereby granted") == 2
    assert licence in page.text
