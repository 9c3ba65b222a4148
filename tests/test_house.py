"""The rules of the house that a program can check."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "service").rglob("*.py"))


def test_imports_point_down_and_tensorflow_stays_in_its_rooms():
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_small_and_say_what_lives_there(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 250
    assert not text or text.startswith('"""'), "no docstring"


@pytest.mark.parametrize(
    "lock",
    [f"requirements{kind}.lock" for kind in ("", "-build", "-ray", "-serve")],
)
def test_locks_pin_hashes_and_name_no_host(lock):
    text = (ROOT / lock).read_text()
    assert "://" not in text
    pins = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert all("==" in pin and pin.endswith("\\") for pin in pins)
    assert text.count("--hash=sha256:") >= len(pins)


def test_the_serving_lock_is_the_whole_one_without_tensorflow():
    def pins(lock):
        lines = (ROOT / lock).read_text().splitlines()
        return {line.split(" ;")[0].rstrip(" \\") for line in lines if line and line[0].isalnum()}

    serve, whole = pins("requirements-serve.lock"), pins("requirements.lock")
    assert serve < whole
    names = {pin.partition("==")[0] for pin in serve}
    assert "openvino" in names
    assert not names & {"tensorflow", "keras", "nncf", "h5py", "pytest"}
