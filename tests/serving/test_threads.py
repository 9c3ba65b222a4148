import math
import os
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.serving.host import NICENESS, available_cores, cpu_quota, give_way

ROOT = Path(__file__).parents[2]
CGROUP = Path("/sys/fs/cgroup")
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


def own(folder, text):
    """A stand-in for /proc, in which this process is in that group."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(text)
    return folder / "proc"


def at_most_cores(count):
    return min(count, CORES)


@pytest.fixture
def limited():
    """Makes a real control group of that quota in microseconds of 100 ms, by either version."""
    made = []

    def limit(quota):
        for parent, file, text in (
            (CGROUP / "cpu", "cpu.cfs_quota_us", f"{quota}"),
            (CGROUP, "cpu.max", f"{quota} 100000"),
        ):
            try:
                group = Path(tempfile.mkdtemp(prefix="resnet-heads-", dir=parent))
            except OSError:
                continue
            made.append(group)
            if (group / file).exists():
                (group / file).write_text(text)
                return group
        pytest.skip("only root may make control groups, and only where they have a CPU controller")

    yield limit
    for group in made:
        for folder in (*group.glob("*/"), group):
            folder.rmdir()


def test_without_a_cgroup_all_cores_are_used(tmp_path):
    assert available_cores(tmp_path, tmp_path / "absent") == CORES


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
    assert available_cores(tmp_path, v2(tmp_path, content)) == at_most_cores(cores)


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
    assert available_cores(tmp_path, v1(tmp_path, quota)) == at_most_cores(cores)


def test_half_a_core_of_v1_counts_where_v2_knows_no_quota(tmp_path):
    assert available_cores(tmp_path, v1(v2(tmp_path, "max 100000\n"), "50000\n")) == 1


def test_fractions_of_a_core_are_known_to_the_benchmark_s_report(tmp_path):
    assert cpu_quota(tmp_path, v2(tmp_path, "150000 100000\n")) == 1.5


@pytest.mark.parametrize(
    ("inner", "outer", "quota"), [("max", "100000", 1), ("300000", "200000", 2), ("50000", "max", 0.5)]
)
def test_of_nested_groups_the_smallest_quota_counts(tmp_path, inner, outer, quota):
    unit = tmp_path / "slice/unit"
    unit.mkdir(parents=True)
    v2(unit, f"{inner} 100000\n")
    v2(unit.parent, f"{outer} 100000\n")
    assert cpu_quota(own(tmp_path, "0::/slice/unit\n"), tmp_path) == quota


def test_a_neighbour_s_quota_does_not_count(tmp_path):
    (tmp_path / "other").mkdir()
    v2(tmp_path / "other", "50000 100000\n")
    assert cpu_quota(own(tmp_path, "0::/mine\n"), tmp_path) is None


def test_a_container_that_sees_the_host_s_path_finds_its_own_group_at_the_root(tmp_path):
    proc = own(tmp_path, "3:cpu,cpuacct:/kubepods/pod1/abc\n0::/kubepods/pod1/abc\n")
    assert cpu_quota(proc, v1(tmp_path, "50000\n")) == 0.5


@pytest.mark.parametrize(("quota", "cores"), [(50_000, 0.5), (100_000, 1), (150_000, 1.5)])
@pytest.mark.parametrize("nested", [False, True], ids=["own", "of the group around"])
def test_a_process_under_a_real_quota_knows_it(limited, quota, cores, nested):
    group = limited(quota)
    if nested:
        group = group / "inner"
        group.mkdir()
    child = (
        f"open({str(group / 'cgroup.procs')!r}, 'w').write('0'); "
        "from service.serving.host import available_cores, cpu_quota; "
        "print(cpu_quota(), available_cores())"
    )
    done = subprocess.run(
        [sys.executable, "-c", child], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == [str(float(cores)), str(at_most_cores(math.ceil(cores)))], done.stderr


@pytest.mark.skipif(not HAS_AFFINITY, reason="this system has no CPU affinity")
def test_affinity_counts(tmp_path):
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert available_cores(tmp_path, tmp_path) == 1
        assert available_cores(tmp_path, v2(tmp_path, "400000 100000\n")) == 1
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
