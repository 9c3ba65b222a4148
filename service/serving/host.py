"""What the machine or the container gives: cores, priorities, control groups, and freed memory."""

import ctypes
import math
import os
import sys
import threading
from pathlib import Path


def groups(
    controller: str, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")
) -> list[Path]:
    """The folders of this process' groups, own first, up to the root that is mounted: version 2 and 1.

    Folders may be missing: a container may see the host's path, and only its own group, as the root.
    """
    own = proc / "self/cgroup"
    lines = own.read_text().splitlines() if own.exists() else ["0::/", f"1:{controller}:/"]
    found: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = cgroup / controller if controllers else _version_2(cgroup)
        inner = root / path.strip("/")
        found += [at for at in (inner, *inner.parents) if at.is_relative_to(root)]
    return found


def _version_2(cgroup: Path) -> Path:
    """Where version 2 is mounted: beside version 1's controllers it has a folder of its own."""
    beside = cgroup / "unified"
    return beside if beside.exists() else cgroup


NICENESS = 10


def available_cores(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The CPU quota rounded up, at most the cores this process may run on."""
    cores, quota = usable_cores(), cpu_quota(proc, cgroup)
    return max(1, min(cores, math.ceil(quota))) if quota else cores


def usable_cores() -> int:
    """The cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> float | None:
    """The smallest CPU quota, in cores, of the control groups around this process; None without any."""
    quotas = [_quota(group) for group in groups("cpu", proc, cgroup)]
    return min((quota for quota in quotas if quota), default=None)


def give_way() -> None:
    """Puts the calling thread behind the engine's, where a thread has a priority of its own.

    The engine's threads wait for each other at every layer: what holds one of them up holds up all.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)


def _quota(group: Path) -> float | None:
    """By version 2, which has one file, else by version 1. What is unlimited is `max` or -1."""
    version_1 = [group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"]
    files = [group / "cpu.max"] if (group / "cpu.max").exists() else version_1
    try:
        quota, period = map(int, " ".join(file.read_text() for file in files).split())
    except (OSError, ValueError):  # There is no such group, or its limit is "max".
        return None
    return quota / period if quota > 0 else None


def give_back() -> None:
    """Returns it to the system, where the C library can (glibc). Loading heads leaves about 25 MB."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)
