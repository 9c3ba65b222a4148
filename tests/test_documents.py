"""README.md and docs/: what they print is run as printed, but for the port; what they name is there."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import documents
import openapi_document
import pytest
import yaml
from documents import ROOT
from PIL import Image
from process import serving

from service.api import problems
from service.cli import main
from service.cli.arguments import parser

COMMANDS = [
    line
    for line in documents.commands("")
    if line and not line.startswith(("make ", "docker ", "kubectl ", "serve "))
]
BIN = Path(sys.executable).parent


@pytest.fixture
def folder(tmp_path):
    """A person's working folder: the examples, and two pictures of their own."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    Image.effect_noise((640, 480), 60).convert("RGB").save(tmp_path / "a.jpg")
    Image.effect_noise((300, 500), 60).convert("RGB").save(tmp_path / "b.png")
    return tmp_path


@pytest.fixture(scope="module")
def url(demo_store):
    """Of a server of the demo, which has all the time that a busy machine needs."""
    with serving(demo_store, RESNET_HEADS_REQUEST_TIMEOUT_S="600") as server:
        yield server.url


def shell(command: str, folder: Path) -> str:
    """What the command prints; it must succeed."""
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_curl_lines_work_as_printed(folder, url):
    lines = [line for line in COMMANDS if not line.startswith("resnet-heads")]
    assert sum(line.startswith("curl") for line in lines) >= 10
    for line in lines:
        printed = shell(line.replace("localhost:8000", url.removeprefix("http://")), folder)
        is_drawn = "-o map.png" in line
        answer = json.loads(printed) if line.startswith("curl") and not is_drawn else {}
        assert "error" not in answer, (line, answer)
        if is_drawn:
            assert (folder / "map.png").read_bytes().startswith(b"\x89PNG")
        elif "/v1/" in line or "/v2/" in line:
            assert answer.keys() & {"predictions", "outputs", "model_version_status"}
        elif "/compare" in line:
            assert answer["results"][0]["predictions"].keys() == {"gap", "flatten"}
        elif "/explain" in line:
            assert answer["results"][0]["label"] == "red-top-left"
        elif "/shift" in line:
            assert [one["head"] for one in answer["heads"]] == ["gap", "flatten"]
        elif line.startswith("curl") and "red-top-left.jpg" in line:
            assert answer["results"][0]["predictions"][0]["label"] == "red-top-left"
        if "top_k=3" in line:
            assert [len(result["predictions"]) for result in answer["results"]] == [3, 3]


def test_the_line_that_serve_prints_works_as_printed(folder, demo_store, monkeypatch):
    monkeypatch.chdir(folder)
    with serving(demo_store) as server:
        line = next(line for line in server.lines if line.startswith("Try: "))
        answer = json.loads(shell(line.removeprefix("Try: "), folder))
    assert answer["results"][0]["predictions"][0]["label"] == "red-top-left"


def test_the_import_lines_work_as_printed(folder):
    from keras_models import LABELS, headed, keras, save, softmax

    save(headed(keras.layers.GlobalAveragePooling2D(), softmax()), folder, "my-gap")
    save(headed(keras.layers.Flatten(), softmax()), folder, "my-flatten")
    (folder / "labels.txt").write_text("\n".join(LABELS))
    lines = [line for line in COMMANDS if line.startswith("resnet-heads import")]
    assert len(lines) == 2
    for line in lines:
        assert "version 1: 5 classes" in shell(line, folder)
    assert sorted(path.name for path in (folder / "model_store").iterdir() if path.name[0] != ".") == [
        "mine-flatten",
        "mine-gap",
    ]


def test_the_check_lines_work_as_printed(folder):
    from keras_models import LABELS, headed, keras, save, softmax

    save(headed(keras.layers.GlobalAveragePooling2D(), softmax()), folder, "my-gap")
    (folder / "labels.txt").write_text("\n".join(LABELS))
    for number, label in enumerate(LABELS):
        (folder / "photographs" / label).mkdir(parents=True)
        noise = Image.effect_noise((64, 48), number + 9)
        noise.convert("RGB").save(folder / "photographs" / label / "a.png")
    (line,) = (f"resnet-heads {one}" for one in PRINTED if "--check" in one)
    assert "version 1: 5 classes" in shell(line, folder)
    (line,) = (f"resnet-heads {one}" for one in PRINTED if one.startswith("check "))
    assert "No other input is better than that of mine-gap version 1" in shell(line, folder)


def test_the_predict_lines_work_as_printed(folder, url):
    lines = [line for line in COMMANDS if line.startswith("resnet-heads predict")]
    assert len(lines) == 2
    table, nothing = (shell(f"export RESNET_HEADS_URL={url}; {line}", folder) for line in lines)
    assert "examples/red-top-left.jpg" in table
    assert nothing == ""
    answers = json.loads((folder / "answers.json").read_text())
    assert [len(answer["predictions"]["gap"]) for answer in answers] == [3] * 4


def test_the_python_works_as_printed(folder, url):
    programs = documents.blocks("python")
    assert len(programs) == 2
    for program in programs:
        here = program.replace("localhost:8000", url.removeprefix("http://"))
        (folder / "program.py").write_text(here)
        printed = shell("python program.py", folder)
        if "tritonclient" in program:
            probabilities = [float(number) for number in printed.strip("[]\n").split()]
            assert sum(probabilities) == pytest.approx(1, abs=1e-3)
        else:
            assert len(printed.splitlines()) == 2


def test_the_study_line_works_as_printed(folder, demo_store):
    (folder / "model_store").symlink_to(demo_store.root)
    (line,) = (line for line in COMMANDS if line.startswith("resnet-heads study"))
    told = shell(line, folder)
    for head in ("flatten", "gap"):
        assert f"{head} v1" in told
    assert "<!doctype html>" in (folder / "study.html").read_text()


def test_the_demo_scores_what_the_documents_say(demo_store):
    told = {row[0].strip("`"): row[1:] for row in documents.rows("head")}
    (finding,) = (line for line in documents.LINES if line.startswith("| accuracy on the corner of"))
    corner = dict(zip(("gap", "flatten"), re.findall(r"\| (\d+) %", finding), strict=True))
    for head in ("flatten", "gap"):
        training = demo_store.read_card(head, 1).training
        scored = [training.accuracy, training.accuracy_by["colour"], training.accuracy_by["corner"]]
        printed = [int(cell.split(" %")[0]) / 100 for cell in told[head]]
        assert scored == pytest.approx(printed, abs=0.08), "processors round differently"
        assert int(corner[head]) / 100 == printed[2]


def test_the_answer_printed_has_the_fields_of_a_real_one(folder, url):
    printed = json.loads(documents.blocks("json")[0])
    asked = f"curl -s --data-binary @examples/red-top-left.jpg {url}/predict"
    real = json.loads(shell(asked, folder))
    assert list(printed) == list(real)
    assert list(printed["timing_ms"]) == list(real["timing_ms"])
    assert list(printed["results"][0]["predictions"][0]) == list(real["results"][0]["predictions"][0])


def test_every_command_is_in_the_documents():
    for name in main.COMMANDS:
        assert f"resnet-heads {name}" in documents.TEXT, name


PRINTED = re.findall(r"^ {0,4}resnet-heads (.*)$", documents.TEXT.replace("\\\n", ""), re.MULTILINE)
QUOTED = re.findall(r"`resnet-heads (\w+ [^`\n]*)`", documents.TEXT)


@pytest.mark.parametrize("line", [*PRINTED, *QUOTED])
def test_every_command_line_is_one_that_the_program_takes(line):
    assert callable(parser(main.COMMANDS).parse_args(shlex.split(line.split(" > ")[0])).run)


def test_every_target_of_make_that_is_named_is_there():
    there = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:`|^)(?:\w+=\S+ )?make ([a-z-]+)", documents.TEXT, re.MULTILINE)
    assert {"run", "test", "bench"} <= set(named) <= there


@pytest.mark.parametrize(
    "path",
    [*documents.PATHS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_link_leads_somewhere(path):
    for link in documents.links(path):
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in documents.anchors(target), link


@pytest.mark.parametrize("index", [documents.FRONT_PAGE, documents.INDEX], ids=["front", "docs"])
def test_both_indexes_list_every_document(index):
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in documents.links(index)}
    assert set(documents.PATHS) <= listed | {documents.FRONT_PAGE, documents.INDEX}


def test_the_front_page_is_short():
    assert len(documents.FRONT_PAGE.read_text().splitlines()) <= 160


def test_the_front_page_lists_our_routes():
    described = yaml.safe_load(openapi_document.render())["paths"]
    ours = {
        f"{method.upper()} {path}"
        for path, item in described.items()
        for method in item
        if not path.startswith(problems.FOREIGN) and path not in ("/v1", "/v2")
    }
    cells = " ".join(row[0] for row in documents.rows("route"))
    listed = set(re.findall(r"`([A-Z]+ /\S*)`", cells))
    assert listed == ours | {"GET /", "GET /docs"}


def test_every_problem_is_told_with_its_statuses():
    told = {row[0].strip("`"): row[1].split(" or ") for row in documents.rows("problem")}
    assert set(told) == set(problems.KINDS)
    for kind, row in zip(problems.KINDS, problems.TABLE.values(), strict=False):
        assert told[kind] == list(dict.fromkeys(map(str, (row.status, row.status_for(True)))))


def test_the_finding_has_the_figures_that_were_measured():
    finding = documents.FRONT_PAGE.read_text().split("## The finding")[1].split("\n## ")[0]
    measured = (ROOT / "docs" / "figures.md").read_text()
    bold = re.findall(r"\*\*[\d.]+(?: MB)?\*\*", finding)
    assert len(bold) == 5
    for figure in bold:
        assert f"| {figure} |" in measured, figure


@pytest.mark.parametrize("path", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_every_file_and_folder_that_is_named_is_there(path):
    folders = "service|api|serving|lab|store|cli|tests|deploy|docs"
    named = re.findall(rf"`((?:{folders})/[\w./-]*)`", (ROOT / path).read_text())
    assert named
    for name in named:
        assert any((base / name).exists() for base in (ROOT, ROOT / "service")), name
