"""Stores that many tests read. Each is built once a run; tests that damage one copy it first."""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from process import in_child, initialised

from service.cli.main import main
from service.store.layout import BENCHMARK, Store

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a background job; children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """`gap` and `flatten` on one backbone at 64x64, 5 classes, by way of `import`."""
    folder = tmp_path_factory.mktemp("small")
    in_child(f"import keras_models; keras_models.import_small({str(folder)!r})")
    return Store(folder / "store", folder / "cache")


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Store], Store]:
    """A copy of a store that a test may damage."""

    def copy(store: Store) -> Store:
        unmeasured = shutil.ignore_patterns(BENCHMARK)  # whatever other tests have measured in it
        shutil.copytree(store.root, tmp_path / "store", ignore=unmeasured)
        return Store(tmp_path / "store", tmp_path / "cache")

    return copy


@pytest.fixture
def run_here(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., subprocess.CompletedProcess]:
    """As `process.run`, in this process: for what a command says, and not for what its process does."""

    def run_here(*words: str, **environment: str) -> subprocess.CompletedProcess:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(words)
        return subprocess.CompletedProcess(words, end.value.code or 0, *capsys.readouterr())

    return run_here


@pytest.fixture(scope="session")
def snapshot() -> Callable[[Path], dict[str, str]]:
    """Every file and folder below a folder, hidden ones too, with what the files hold."""

    def snapshot(folder: Path) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            if path.is_file()
            else "folder"
            for path in folder.rglob("*")
        }

    return snapshot


@pytest.fixture(scope="session")
def demo_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """What `make run` builds where ImageNet's weights cannot be had; a run's processes share one."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return initialised(folder / "demo", "demo")
