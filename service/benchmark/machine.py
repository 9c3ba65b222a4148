"""Describes this machine and the versions of its libraries, without importing them."""

import contextlib
import platform
import re
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from service.benchmark.report import Machine
from service.serving.host import cpu_quota, usable_cores

LIBRARIES = ("resnet-heads", "numpy", "openvino", "keras", "tensorflow")


def describe() -> Machine:
    """Describes this machine at this time."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return Machine(
        host=socket.gethostname(),
        cpu=_cpu(Path("/proc/cpuinfo")),
        cores=usable_cores(),
        cpu_quota=cpu_quota(),
        versions=versions,
    )


def _cpu(cpuinfo: Path) -> str:
    """The CPU's model name if Linux gives it, else the architecture."""
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()
