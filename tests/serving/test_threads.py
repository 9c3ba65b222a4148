import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.serving.threads import NICENESS, available_cores, give_way

HAS_AFFINITY = hasattr(os, "sched_getaffinity")
CORES = len(os.sched_getaffinity(0)) if HAS_AFFINITY else os.cpu_count()


def v2(folder, content):
    (folder / "cpu.max").write_text(content)
    return folder


def v1(folder, quota, period="100000\n"):
    (folder / "cpu").mkdir()
    (folder / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (folder / "cpu" / "cpu.cfs_period_us").write_text(period)
    return folder


def at_most_cores(count):
    return min(count, CORES)


def test_without_a_cgroup_all_cores_are_used(tmp_path):
    assert available_cores(tmp_path / "absent") == CORES


@pytest.mark.parametrize(
    ("content", "cores"),
    [
        ("50000 100000\n", 1),
        ("100000 100000\n", 1),
        ("150000 100000\n", 2),
        ("25000 50000\n", 1),
        ("max 100000\n", CORES),
        (f"{(CORES + 1) * 100000} 100000\n", CORES),
        ("1000 100000\n", 1),
        ("", CORES),
        ("nonsense\n", CORES),
        ("many 100000\n", CORES),
    ],
)
def test_a_quota_of_cgroup_v2_is_rounded_up_and_bounded_by_the_cores(tmp_path, content, cores):
    assert available_cores(v2(tmp_path, content)) == at_most_cores(cores)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("50000\n", 1),
        ("150000\n", 2),
        ("-1\n", CORES),
        (f"{(CORES + 1) * 100000}\n", CORES),
        ("nonsense\n", CORES),
    ],
)
def test_a_quota_of_cgroup_v1_is_rounded_up_and_bounded_by_the_cores(tmp_path, quota, cores):
    assert available_cores(v1(tmp_path, quota)) == at_most_cores(cores)


def test_half_a_core_of_v1_counts_where_v2_knows_no_quota(tmp_path):
    assert available_cores(v1(v2(tmp_path, "max 100000\n"), "50000\n")) == 1


@pytest.mark.skipif(not HAS_AFFINITY, reason="this system has no CPU affinity")
def test_affinity_counts(tmp_path):
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert available_cores(tmp_path) == 1
        assert available_cores(v2(tmp_path, "400000 100000\n")) == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere priority is the whole process's")
def test_a_thread_that_gives_way_lowers_its_own_priority_and_no_other():
    def priority():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = priority()
    with ThreadPoolExecutor(1, initializer=give_way) as pool:
        assert pool.submit(priority).result() == min(19, before + NICENESS)
    assert priority() == before
