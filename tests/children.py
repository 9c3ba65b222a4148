"""Child processes of a benchmark: fakes that speak its protocol, and how to find the real ones."""

import sys
from pathlib import Path

from service.benchmark.children import Child, Children
from service.benchmark.orders import Task
from service.benchmark.run import COMMAND
from service.store.layout import Store

# calls of gap take 1, 2, 3 ms and of flatten 3, 6, 9 ms, whatever the batch size
FAKE = """
import json, sys, time
task = json.loads(sys.argv[1])
times = 3 if task["head"][0] == "f" else 1
answers = {
    "load": {
        "load_ms": 10, "first_call_ms": [9 * times for _ in task["batch_sizes"]], "computes_in": "f32"
    },
    "weigh": {"resident_mb": 7, "anonymous_mb": 4, "file_backed_mb": 3, "peak_mb": 8, "marginal_mb": 2},
    "turn": {"latencies_ms": [times, 2 * times, 3 * times]},
}
for line in sys.stdin:
    order = json.loads(line)
    time.sleep(order["seconds"])
    print(json.dumps(answers[order["do"]]), flush=True)
"""


def python(code: str) -> tuple[str, ...]:
    """The command that runs `code`."""
    return (sys.executable, "-c", code)


def start(children: Children, store: Store, head: str, batch_sizes: tuple[int, ...] = (1,)) -> Child:
    """The real child that measures version 1 of a head, as a run starts it."""
    task = Task(
        store_dir=str(store.root),
        cache_dir=str(store.cache),
        engine="openvino",
        threads=1,
        head=head,
        version=1,
        batch_sizes=batch_sizes,
    )
    return children.start(head, [*COMMAND, task.model_dump_json()])


def of(parent: int) -> set[int]:
    """Process ids of the real children of a process."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                command = (folder / "cmdline").read_bytes()
                ppid = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended meanwhile
                continue
            if b"service.benchmark.child" in command and ppid == parent:
                found.add(int(folder.name))
    return found


def is_alive(process: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def are_gone(processes: set[int]) -> bool:
    return not any(map(is_alive, processes))
