"""Runs client.py beside a test, and counts what became of its requests."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from load.client import Sent

CLIENT = Path(__file__).with_name("client.py")
PATIENCE_S = 120


class Load:
    """Requests under way; `sent` is what became of each, once they are over."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process
        self.sent: list[Sent] = []

    def wait(self) -> None:
        """Until its seconds are over, and nothing is under way."""
        if not self._process.stdout.closed:
            with self._process.stdout as told:
                self.sent = [Sent(*one) for one in json.loads(told.read() or "[]")]
            assert self._process.wait(PATIENCE_S) == 0, "the client failed"

    def statuses(self) -> Counter:
        """How many got each status; 0 is no answer."""
        return Counter(one.status for one in self.sent)

    def of(self, status: int, since: float = 0, until: float = np.inf) -> list[Sent]:
        """Those of that status that were due in that time."""
        return [one for one in self.sent if one.status == status and since <= one.due < until]

    def answered(self, since_s: float, until_s: float) -> list[Sent]:
        """Those answered with 200 between those seconds of the load."""
        begun = min(one.due for one in self.sent)
        return [one for one in self.of(200) if since_s <= one.finished - begun < until_s]

    def longest_retry_s(self) -> int:
        """The largest Retry-After of all."""
        return max((one.retry_after for one in self.of(429)), default=0)

    def served(self) -> float:
        """The share of the refused who came back until they were answered."""
        refused = {one.id for one in self.of(429)}
        return len(refused & {one.id for one in self.of(200)}) / len(refused)

    def failed(self) -> list[Sent]:
        """Those that got neither an answer nor a refusal."""
        return [one for one in self.sent if one.status not in (200, 429)]


def latencies_s(answers: Sequence[Sent]) -> np.ndarray:
    """From when each was due until it was answered."""
    return np.array([one.finished - one.due for one in answers])


@contextmanager
def load(urls: Sequence[str], body: Path, core: int | None = None, **options) -> Iterator[Load]:
    """Under way until the block ends, or its seconds are over; `options` are those of client.py."""
    asked = json.dumps({"urls": urls, "body": str(body), "headers": {}, **options})
    pinned = ["taskset", "-c", str(core)] if core is not None else []
    command = [*pinned, sys.executable, CLIENT, asked]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        running = Load(process)
        try:
            yield running
            process.stdin.close()
            running.wait()
        finally:
            process.kill()


def loaded(urls: Sequence[str], body: Path, core: int | None = None, **options) -> Load:
    """A load whose seconds are over."""
    with load(urls, body, core, **options) as running:
        running.wait()
    return running
