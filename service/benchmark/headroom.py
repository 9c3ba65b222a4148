"""Estimates whether a run fits into memory, to refuse it before the kernel's OOM killer ends the server.

The estimate is an upper bound: its coefficients were measured on ResNet50 heads of 10 and 1000 classes.
"""

from collections.abc import Iterable
from math import prod
from pathlib import Path

from service.benchmark.plan import Subject
from service.errors import TooLittleMemory
from service.serving.engines import EngineName
from service.serving.host import groups
from service.store.card import Card

ENGINE_BYTES: dict[EngineName, float] = {"openvino": 200e6, "keras": 900e6}
WEIGHT_COPIES: dict[EngineName, float] = {"openvino": 2.5, "keras": 3.5}
FEATURE_MAPS_PER_IMAGE: dict[EngineName, float] = {"openvino": 40, "keras": 80}
FLOAT_BYTES = 4
FILES = (  # Files of a control group: version 2, then version 1.
    ("memory.current", "memory.max", "inactive_file"),
    ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"),
)


def check(subjects: Iterable[Subject], batch_size: int, available_bytes: int | None) -> None:
    """Raises TooLittleMemory unless all subjects fit at once. Unknown available memory lets all pass."""
    needed = sum(needed_bytes(subject, batch_size) for subject in subjects)
    if available_bytes is not None and needed > available_bytes:
        raise TooLittleMemory(needed / 1e6, available_bytes / 1e6)


def needed_bytes(subject: Subject, batch_size: int) -> float:
    """An upper bound for one child: its engine, several copies of its weights, and its feature maps."""
    feature_map = FLOAT_BYTES * prod(subject.card.backbone.feature_shape)
    return (
        ENGINE_BYTES[subject.engine]
        + WEIGHT_COPIES[subject.engine] * weight_bytes(subject.card)
        + FEATURE_MAPS_PER_IMAGE[subject.engine] * feature_map * batch_size
    )


def weight_bytes(card: Card) -> int:
    """The bytes of the weights of backbone and head: float32, except what is int8.

    Those of a bf16 backbone are opened in float32, and stay so on a processor without bfloat16.
    """
    backbone = FLOAT_BYTES * card.backbone.parameters
    if card.precision == "int8" and card.quantization:
        backbone = card.quantization.weight_bytes
    return backbone + card.structure.weight_bytes


def available_bytes(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The least memory available in the machine and in this process's cgroups; None if unknown."""
    around = groups("memory", proc, cgroup)
    told = [_of_machine(proc / "meminfo"), *(_left(at, *names) for at in around for names in FILES)]
    return min((value for value in told if value is not None), default=None)


def _of_machine(meminfo: Path) -> int | None:
    try:
        lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
        return 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError):
        return None


def _left(group: Path, usage: str, limit: str, droppable: str) -> int | None:
    """A cgroup's limit minus its use, without file pages that the kernel can drop."""
    try:
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        used = int((group / usage).read_text()) - int(statistics[droppable])
        return int((group / limit).read_text()) - used
    except (OSError, ValueError, KeyError):  # There is no such group, or its limit is "max".
        return None
