"""Processes that allocate a known amount and say how they grew."""

import json
import subprocess
import sys

import pytest

from service.benchmark import memory

MB = 1_000_000
SIZE = 100 * MB
TOLERANCE = 4 * MB  # of Python's own growth, and of pages half used

START = """
import json, mmap, sys
import numpy as np
from service.benchmark.memory import Scale
scale = Scale()
"""
END = """
grown = scale.growth()
print(json.dumps([grown.anonymous, grown.file_backed, scale.peak_bytes()]))
"""
ANONYMOUS = f"ones = np.ones({SIZE}, np.uint8)"
FILE_BACKED = """
file = open(sys.argv[1], "rb")
mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
total = sum(mapped[at] for at in range(0, len(mapped), 4096))
"""
FREED = "\ndel ones\n"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


@pytest.fixture
def grow(tmp_path):
    """Runs code between START and END; returns anonymous, file-backed and peak bytes."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * SIZE)

    def run(code):
        command = [sys.executable, "-c", START + code + END, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return json.loads(done.stdout)

    return run


def near(expected):
    return pytest.approx(expected, abs=TOLERANCE)


def test_nothing_allocated_is_nothing_grown(grow):
    assert grow("") == [near(0), near(0), near(0)]


def test_what_is_allocated_is_anonymous(grow):
    assert grow(ANONYMOUS) == [near(SIZE), near(0), near(SIZE)]


def test_what_is_only_reserved_does_not_count(grow):
    assert grow(f"reserved = np.empty({SIZE}, np.uint8)") == [near(0), near(0), near(0)]


def test_a_mapped_file_that_is_read_is_file_backed(grow):
    assert grow(FILE_BACKED) == [near(0), near(SIZE), near(SIZE)]


def test_both_add_up(grow):
    assert grow(ANONYMOUS + FILE_BACKED) == [near(SIZE), near(SIZE), near(2 * SIZE)]


def test_the_peak_remembers_what_was_freed(grow):
    assert grow(ANONYMOUS + FREED) == [near(0), near(0), near(SIZE)]


def test_the_peak_forgets_what_was_before(grow):
    before = f"\nones = np.ones({SIZE}, np.uint8)\ndel ones\nscale = Scale()\n"
    assert grow(before) == [near(0), near(0), near(0)]


def test_an_older_peak_that_cannot_be_reset_is_no_guess(grow, tmp_path):
    """A lower peak than the older one is unknown, a higher one is known."""
    for name in ("status", "smaps_rollup"):
        (tmp_path / name).symlink_to(f"/proc/self/{name}")
    (tmp_path / "clear_refs").mkdir()  # cannot be written to
    older = f"""
from pathlib import Path
ones = np.ones({SIZE}, np.uint8)
del ones
scale = Scale(Path({str(tmp_path)!r}))
"""
    assert grow(older)[2] is None
    assert grow(older + f"more = np.ones({2 * SIZE}, np.uint8)")[2] == near(2 * SIZE)


def test_without_smaps_rollup_the_counts_of_status_do(tmp_path):
    status = "Name:\tpython\nVmHWM:\t {} kB\nRssAnon:\t {} kB\nRssFile:\t {} kB\nRssShmem:\t {} kB\n"
    (tmp_path / "status").write_text(status.format(900, 300, 200, 50))
    (tmp_path / "clear_refs").mkdir()
    scale = memory.Scale(tmp_path)
    (tmp_path / "status").write_text(status.format(1000, 310, 220, 90))
    assert scale.growth() == memory.Resident(10 * 1024, 60 * 1024)
    assert scale.peak_bytes() == (1000 - 550) * 1024


def test_without_proc_there_is_an_error_and_no_figure(tmp_path):
    with pytest.raises(OSError, match="status"):
        memory.Scale(tmp_path)
