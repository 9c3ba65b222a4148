"""`resnet-heads benchmark`, as a process where it measures."""

import shutil
import subprocess
from pathlib import Path

import pytest
from process import run

from service.benchmark.report import Report

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmark(small_store, copied):
    store = copied(small_store)
    places = ("--store-dir", str(store.root))
    cache = {"RESNET_HEADS_CACHE_DIR": str(store.cache)}
    return lambda *flags: run("benchmark", *places, *flags, **cache)


def test_it_prints_the_report_as_json_and_then_has_one(benchmark):
    done = benchmark("--heads", "gap", "--batch-sizes", "1,2", "--seconds", "6", "--json")
    report = Report.model_validate_json(done.stdout)
    assert [row.batch_size for row in report.heads[0].latency] == [1, 2]
    assert report.requests_meanwhile is None
    assert "Measuring gap, up to 6 s" in done.stderr
    again = benchmark("--if-missing")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--heads", "nope"], "no head named 'nope'"),
        (["--engines", "jax"], "engines"),
        (["--batch-sizes", "0"], "--batch-sizes"),
        (["--batch-sizes", "many"], "--batch-sizes"),
        (["--seconds", "121"], "seconds"),
        (["--seconds", "1"], "more seconds"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_2(small_store, flags, told, run_here):
    done = run_here("benchmark", "--store-dir", str(small_store.root), *flags)
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_make_run_serves_also_when_it_cannot_measure(tmp_path):
    """With commands that say what they were called with; the one that measures fails."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "resnet-heads").write_text('#!/bin/sh\necho "$@"\ntest "$1" != benchmark\n')
    (binaries / "resnet-heads").chmod(0o755)
    for name in ("requirements.lock", "pyproject.toml", ".venv/.installed"):
        (tmp_path / name).touch()
    done = subprocess.run(
        ["make", "--no-print-directory", "run"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["init --if-empty", "benchmark --if-missing", "serve"]
    assert "serving all the same" in done.stderr
