"""The Pythons that are supported: others are refused before anything is installed; the newest works."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from packaging.specifiers import SpecifierSet
from process import serving
from pythons import pyenv_root, python_of

from service.store.layout import MODEL, Store

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = SpecifierSet(PROJECT["requires-python"])
VERSIONS = [f"3.{minor}" for minor in range(9, 20)]
NEWEST = list(REQUIRED.filter(VERSIONS))[-1]
UV = Path(sys.executable).with_name("uv")
INSTALL_S = 900
COMMAND_S = 900


def fake_python(path: Path, version: str) -> Path:
    """Says that it is of that version, and makes no virtual environment."""
    told = f"import sys; sys.version_info = (*map(int, {version!r}.split('.')), 0); exec(sys.argv[1])"
    path.write_text(f'#!/bin/sh\n[ "$1" = -c ] || exit 9\nexec {sys.executable} -c "{told}" "$2"\n')
    path.chmod(0o755)
    return path


def install(folder: Path, **environment: str) -> str:
    """What `make` says, where it installs into `folder`; each Python here makes it fail in the end."""
    venv = folder / "venv"
    command = ["make", "--no-print-directory", f"VENV={venv}", f"{venv}/.installed"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    return done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_make_refuses_the_pythons_that_pip_would(tmp_path, version):
    told = install(tmp_path, PYTHON=str(fake_python(tmp_path / "python", version)))
    assert ("Python 3.11, 3.12 or 3.13 is needed" in told) == (version not in REQUIRED)
    assert ("Error 9" in told) == (version in REQUIRED), "it went on to make the environment"
    assert f"is {version}." in told or version in REQUIRED


def test_an_environment_of_another_python_is_refused_as_well(tmp_path):
    (tmp_path / "venv/bin").mkdir(parents=True)
    fake_python(tmp_path / "venv/bin/python", "3.14")
    assert "is 3.14." in install(tmp_path, PYTHON=sys.executable)


def test_a_name_on_the_path_that_does_not_run_is_passed_over(tmp_path):
    """As pyenv leaves it for a version that is installed and not chosen."""
    for name in ("python3.11", "python3"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 127\n")
        (tmp_path / name).chmod(0o755)
    fake_python(tmp_path / "python3.12", "3.9")
    assert "is 3.9." in install(tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}")


@pytest.fixture(scope="module")
def resnet_heads() -> Iterator[Callable[..., list[str]]]:
    """The command line, installed from the lock as `make` does; gone afterwards, as it is 2 GB."""
    if (python := python_of(NEWEST)) is None:
        reason = f"Python {NEWEST} is neither on PATH nor below {pyenv_root()}"
        assert "RESNET_HEADS_NO_SKIP" not in os.environ, reason
        pytest.skip(reason)
    with TemporaryDirectory() as folder:
        venv = Path(folder) / "venv"
        pip = [UV, "pip", "install", "--quiet", "--python", venv]
        for command in (
            [UV, "venv", "--quiet", "--python", python, venv],
            [*pip, "--require-hashes", "--requirements", ROOT / "requirements.lock"],
            [*pip, "--no-deps", "--no-build-isolation", ROOT],
        ):
            subprocess.run(command, timeout=INSTALL_S, check=True)
        yield lambda *arguments: [str(venv / "bin" / "resnet-heads"), *map(str, arguments)]


@pytest.mark.slow
def test_on_the_newest_python_heads_are_made_imported_and_served_as_on_this_one(
    resnet_heads, demo_store, tmp_path
):
    """A head that was saved here has the digests there that it has here, and answers alike."""
    here = demo_store.card("flatten", 1)
    store = Store(tmp_path / "store", tmp_path / "cache")
    (tmp_path / "labels.txt").write_text("\n".join(here.labels))

    def run(command: str, *arguments: object) -> None:
        subprocess.run(
            resnet_heads(command, *arguments, "--store-dir", store.root),
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": ""},
            timeout=COMMAND_S,
            check=True,
        )

    run("init", "--weights", "demo")
    given = [f"--{name}={getattr(here.input, name)}" for name in ("preprocessing", "resize", "decode")]
    file = demo_store.folder("flatten", 1) / MODEL
    run("import", file, "--head", "brought", "--labels", tmp_path / "labels.txt", *given)
    brought = store.card("brought", 1)
    assert (brought.input, brought.backbone, brought.structure.digest) == (
        here.input,
        here.backbone,
        here.structure.digest,
    )

    serve = resnet_heads("serve", "--port", "0", "--store-dir", store.root, "--cache-dir", store.cache)
    with serving(store, command=serve, PYTHONPATH="") as server:
        made = predict(server.url, "flatten", (ROOT / "examples/red-top-left.jpg").read_bytes())
        assert made[0]["label"] == "red-top-left"
        answer = predict(server.url, "brought", here.golden.image)
        by_index = {one["index"]: one["probability"] for one in answer}
        assert by_index == pytest.approx(dict(enumerate(here.golden.probabilities)), rel=0, abs=1e-4)
        assert server.stop() == 0


def predict(url: str, head: str, image: bytes) -> list[dict]:
    answer = httpx.post(f"{url}/predict?head={head}&top_k=16", content=image, timeout=60)
    return answer.raise_for_status().json()["results"][0]["predictions"]
