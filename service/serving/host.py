"""Reads the cores and control groups of this machine or container, and sets priority and memory."""

import ctypes
import math
import os
import sys
import threading
from pathlib import Path


def groups(
    controller: str, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")
) -> list[Path]:
    """The cgroup folders (v1 and v2) of this process: its own first, up to the mounted root.

    Folders may be missing: inside a container the path may be the host's, while only the container's own
    group is mounted, as the root.
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
    """Where cgroup v2 is mounted: in the subfolder `unified` if v1 controllers are mounted as well."""
    beside = cgroup / "unified"
    return beside if beside.exists() else cgroup


NICENESS = 10
MADV_DONTNEED = 4


def available_cores(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The CPU quota rounded up, but no more than the usable cores."""
    cores, quota = usable_cores(), cpu_quota(proc, cgroup)
    return max(1, min(cores, math.ceil(quota))) if quota else cores


def usable_cores() -> int:
    """The number of cores that this process may run on (its CPU affinity)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> float | None:
    """The smallest CPU quota, in cores, of this process's control groups; None if none has a quota."""
    quotas = [_quota(group) for group in groups("cpu", proc, cgroup)]
    return min((quota for quota in quotas if quota), default=None)


def give_way() -> None:
    """Lowers the calling thread's priority (raises its niceness), on Linux, below the engine's threads.

    The engine's threads synchronise at every layer, so that delaying one of them delays all.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)


def _quota(group: Path) -> float | None:
    """The quota in cores: from the one file of cgroup v2, else from v1. `max` or -1 means no limit."""
    version_1 = [group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"]
    files = [group / "cpu.max"] if (group / "cpu.max").exists() else version_1
    try:
        quota, period = map(int, " ".join(file.read_text() for file in files).split())
    except (OSError, ValueError):  # There is no such group, or its limit is "max".
        return None
    return quota / period if quota > 0 else None


def give_back() -> None:
    """Returns freed memory to the system with glibc's malloc_trim: about 25 MB after loading heads."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)


def drop_pages(file: Path) -> None:
    """Takes the pages of a file that is mapped for reading out of this process's memory, on Linux.

    Whoever reads them again gets them from the file.
    """
    if sys.platform != "linux":
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    path = str(file.resolve())
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, permissions, *_, mapped = line.split(maxsplit=5)
        if mapped == path and "w" not in permissions:
            start, end = (int(address, 16) for address in place.split("-"))
            madvise(start, end - start, MADV_DONTNEED)
