"""What the README prints is run as printed; only the port is another."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from process import serving

from service import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
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


def test_the_curl_lines_work_as_printed(folder, demo_store):
    lines = [line for line in COMMANDS if not line.startswith("resnet-heads")]
    assert sum(line.startswith("curl") for line in lines) >= 5
    with serving(demo_store) as server:
        for line in lines:
            printed = shell(line.replace("localhost:8000", server.url.removeprefix("http://")), folder)
            is_drawn = "-o map.png" in line
            answer = json.loads(printed) if line.startswith("curl") and not is_drawn else {}
            assert "error" not in answer, (line, answer)
            if is_drawn:
                assert (folder / "map.png").read_bytes().startswith(b"\x89PNG")
            elif "/v1/" in line or "/v2/" in line:
                assert answer.keys() & {"predictions", "outputs", "model_version_status"}
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
    from keras_models import LABELS, classifier, keras, save

    save(classifier(keras.layers.GlobalAveragePooling2D()), folder, "my-gap")
    save(classifier(keras.layers.Flatten()), folder, "my-flatten")
    (folder / "labels.txt").write_text("\n".join(LABELS))
    lines = [line for line in COMMANDS if line.startswith("resnet-heads import")]
    assert len(lines) == 2
    for line in lines:
        assert "version 1: 5 classes" in shell(line, folder)
    assert sorted(path.name for path in (folder / "model_store").iterdir() if path.name[0] != ".") == [
        "mine-flatten",
        "mine-gap",
    ]


def test_the_predict_lines_work_as_printed(folder, demo_store):
    lines = [line for line in COMMANDS if line.startswith("resnet-heads predict")]
    assert len(lines) == 2
    with serving(demo_store) as server:
        table, nothing = (
            shell(f"export RESNET_HEADS_URL={server.url}; {line}", folder) for line in lines
        )
    assert "examples/red-top-left.jpg" in table
    assert nothing == ""
    answers = json.loads((folder / "answers.json").read_text())
    assert [len(answer["predictions"]["gap"]) for answer in answers] == [3] * 4


def test_the_python_works_as_printed(folder, demo_store):
    programs = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(programs) == 2
    with serving(demo_store) as server:
        for program in programs:
            address = server.url.removeprefix("http://")
            (folder / "program.py").write_text(program.replace("localhost:8000", address))
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


def test_the_demo_scores_what_the_readme_says(demo_store):
    for head in ("flatten", "gap"):
        training = demo_store.read_card(head, 1).training
        row = next(line for line in README.splitlines() if line.startswith(f"| `{head}` |"))
        told = [int(percent) / 100 for percent in re.findall(r"(\d+) %", row)[:3]]
        scored = [training.accuracy, training.accuracy_by["colour"], training.accuracy_by["corner"]]
        assert scored == pytest.approx(told, abs=0.08), "another processor may round a few pictures over"


def test_the_answer_printed_has_the_fields_of_a_real_one(folder, demo_store):
    printed = json.loads(re.search(r"```json\n(.*?)```", README, re.DOTALL)[1])
    with serving(demo_store) as server:
        real = json.loads(
            shell(f"curl -s --data-binary @examples/red-top-left.jpg {server.url}/predict", folder)
        )
    assert list(printed) == list(real)
    assert list(printed["timing_ms"]) == list(real["timing_ms"])
    assert list(printed["results"][0]["predictions"][0]) == list(real["results"][0]["predictions"][0])


def test_every_command_is_in_the_readme():
    for name in cli.COMMANDS:
        assert f"resnet-heads {name}" in README, name
