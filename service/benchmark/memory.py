"""Reads the resident memory of this process from /proc. Systems without it get no figure."""

from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc/self")
NOT_TOLD = "this system has no /proc to read memory from"
RESET_PEAK = "5"  # Written to clear_refs, it resets VmHWM to the current value (proc(5)).


@dataclass(frozen=True)
class Resident:
    """Bytes of resident memory: anonymous, and file-backed or shared."""

    anonymous: int
    file_backed: int

    @property
    def total(self) -> int:
        return self.anonymous + self.file_backed

    def __sub__(self, other: "Resident") -> "Resident":
        return Resident(self.anonymous - other.anonymous, self.file_backed - other.file_backed)


class Scale:
    """Measures how much this process has grown since it was made. Raises OSError without /proc."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._start = _resident(proc)
        self._has_reset = _reset_peak(proc)
        self._first_peak = _kilobytes(proc / "status")["VmHWM"]

    def growth(self) -> Resident:
        """The resident memory now minus that at the start."""
        return _resident(self._proc) - self._start

    def peak_bytes(self) -> int | None:
        """The largest growth since the start; None if an earlier peak hides it."""
        peak = _kilobytes(self._proc / "status")["VmHWM"]
        if not self._has_reset and peak <= self._first_peak:
            return None
        # The kernel's high-water mark may lag a little behind the current value.
        return max(1024 * peak - self._start.total, self.growth().total)


def _resident(proc: Path) -> Resident:
    """Reads the exact sums of smaps_rollup, or else the approximate counters of status."""
    if (proc / "smaps_rollup").exists():
        kilobytes = _kilobytes(proc / "smaps_rollup")
        anonymous = kilobytes["Anonymous"]
        return Resident(1024 * anonymous, 1024 * (kilobytes["Rss"] - anonymous))
    kilobytes = _kilobytes(proc / "status")
    return Resident(1024 * kilobytes["RssAnon"], 1024 * (kilobytes["RssFile"] + kilobytes["RssShmem"]))


def _reset_peak(proc: Path) -> bool:
    try:
        (proc / "clear_refs").write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def _kilobytes(file: Path) -> dict[str, int]:
    """Parses the lines of the form `Name:   123 kB`."""
    lines = (line.split() for line in file.read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if words[-1:] == ["kB"]}
