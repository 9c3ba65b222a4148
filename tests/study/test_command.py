"""`resnet-heads study`, as a process where that matters."""

import os
import subprocess
import sys

import pytest
from experiment_records import experiment, training
from fakes import publish
from process import run


@pytest.fixture
def store_dir(bench):
    publish(bench.store, "gap", training=training(experiment()))
    return str(bench.store.root)


def test_it_prints_the_table_and_writes_the_page(store_dir, tmp_path):
    path = tmp_path / "study.html"
    done = run("study", "--store-dir", store_dir, "--html", str(path))
    assert done.returncode == 0
    assert "gap v1" in done.stdout
    assert done.stderr.splitlines() == [f"Written: {path}"]
    assert path.read_text("utf-8").startswith("<!doctype html>")


def test_a_missing_folder_is_one_line_and_exit_2(store_dir, tmp_path, run_here):
    done = run_here(
        "study", "--store-dir", store_dir, "--html", str(tmp_path / "missing" / "study.html")
    )
    assert (done.returncode, done.stdout) == (2, ""), "it is told before the study is made"
    assert done.stderr.splitlines() == [
        f"resnet-heads: There is no folder {tmp_path / 'missing'} to write study.html to."
    ]


def test_a_full_disk_is_one_line_and_leaves_the_older_page(store_dir, tmp_path):
    path = tmp_path / "study.html"
    path.write_text("older")
    # a limit on the size of files is the full disk that needs no disk
    study = f'"{sys.executable}" -B -m service study --store-dir "{store_dir}" --html "{path}"'
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 8; exec {study}"],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"resnet-heads: {path} cannot be written: File too large."]
    assert path.read_text() == "older"
    assert not list(tmp_path.glob(".staging*"))


def test_an_empty_store_is_one_line_and_exit_2(tmp_path, run_here):
    done = run_here("study", "--store-dir", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"resnet-heads: The store {tmp_path} is empty; fill it with: resnet-heads init"
    ]


def test_a_library_that_is_not_installed_is_one_line_and_exit_2(store_dir, tmp_path):
    (tmp_path / "sklearn.py").write_text("raise ModuleNotFoundError(name='sklearn')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = run("study", "--store-dir", store_dir, PYTHONPATH=path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "resnet-heads: This command needs sklearn, which is not installed here."
    ]
