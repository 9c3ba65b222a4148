"""How many threads to use, what the container may use and not what the host has; and which go first."""

import math
import os
import sys
import threading
from pathlib import Path

NICENESS = 10


def available_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The CPU quota (cgroup v2, then v1) rounded up, at most the cores this process may run on."""
    cores, quota = usable_cores(), cpu_quota(cgroup)
    return max(1, min(cores, math.ceil(quota))) if quota else cores


def usable_cores() -> int:
    """The cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(cgroup: Path = Path("/sys/fs/cgroup")) -> float | None:
    """The CPU quota in cores; None where there is none."""
    return _quota_v2(cgroup) or _quota_v1(cgroup)


def give_way() -> None:
    """Puts the calling thread behind the engine's, where a thread has a priority of its own.

    The engine's threads wait for each other at every layer: what holds one of them up holds up all.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)


def _quota_v2(cgroup: Path) -> float | None:
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _quota_v1(cgroup: Path) -> float | None:
    try:
        quota = int((cgroup / "cpu/cpu.cfs_quota_us").read_text())
        period = int((cgroup / "cpu/cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return None if quota <= 0 else quota / period
