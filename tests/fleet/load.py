"""Runs client.py beside a test, and counts what became of its requests."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

CLIENT = Path(__file__).with_name("client.py")
PATIENCE_S = 120


class Load:
    """Requests under way; `sent` is what became of each, once they are over."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process
        self.sent: list[dict] = []

    def end(self) -> None:
        """Sends no more, and waits for what is under way."""
        if not self._process.stdin.closed:
            self._process.stdin.close()
            self._read()

    def wait(self) -> None:
        """Until its seconds are over."""
        self._read()
        self._process.stdin.close()

    def _read(self) -> None:
        self.sent = json.loads(self._process.stdout.read())
        assert self._process.wait(PATIENCE_S) == 0

    def statuses(self) -> Counter:
        """How many got each status; 0 is no answer."""
        return Counter(one["status"] for one in self.sent)

    def of(self, status: int, since: float = 0, until: float = np.inf) -> list[dict]:
        """Those of that status that were due in that time."""
        return [one for one in self.sent if one["status"] == status and since <= one["due"] < until]

    def longest_retry_s(self) -> int:
        """The largest Retry-After of all."""
        return max((one["retry_after"] for one in self.of(429)), default=0)

    def served(self) -> float:
        """The share of the refused who came back until they were answered."""
        refused = {one["id"] for one in self.of(429)}
        return len(refused & {one["id"] for one in self.of(200)}) / len(refused)

    def failed(self) -> list[dict]:
        """Those that got neither an answer nor a refusal."""
        return [one for one in self.sent if one["status"] not in (200, 429)]


def latencies_s(answers: list[dict]) -> np.ndarray:
    """From when each was due until it was answered."""
    return np.array([one["finished"] - one["due"] for one in answers])


@contextmanager
def load(url: str, body: Path, core: int | None = None, **options: float | str) -> Iterator[Load]:
    """`options` are those of client.py."""
    pinned = ["taskset", "-c", str(core)] if core is not None else []
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    process = subprocess.Popen(
        [*pinned, sys.executable, CLIENT, url, body, *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    running = Load(process)
    try:
        yield running
        running.end()
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        process.stdout.close()
