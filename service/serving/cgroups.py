"""Where the kernel tells what a container may use: the control groups around this process."""

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
