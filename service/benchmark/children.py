"""The parent's side of child processes: starts them, asks with a deadline, and always ends them."""

import contextlib
import os
import selectors
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Self, TypeVar

from pydantic import BaseModel, ValidationError

from service.benchmark.orders import Order
from service.errors import BenchmarkFailed

MAX_ANSWER_BYTES = 2**20
END_S = 5.0

A = TypeVar("A", bound=BaseModel)


class Child:
    """A process that answers JSON lines. One thread may ask it; any thread may kill it."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (close() closes it; a pipe could fill up)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, bufsize=0
        )

    def ask(self, order: Order, answer: type[A], end: float) -> A:
        """Sends an order and returns its answer; `end` is the deadline on the monotonic clock.

        Raises TimeoutError, or BenchmarkFailed when the process has ended or answers something else.
        """
        stdin = self.process.stdin
        assert stdin is not None  # noqa: S101 (it is a pipe)
        try:
            stdin.write(order.model_dump_json().encode() + b"\n")
        except OSError as exc:
            raise self._ended() from exc
        line = self._read_line(end)
        try:
            return answer.model_validate_json(line)
        except ValidationError as exc:
            raise BenchmarkFailed(
                f"{self.name}: its process answered {line[:80]!r} instead of figures."
            ) from exc

    def kill(self) -> None:
        """Kills the process if it is running."""
        self.process.kill()

    def close(self) -> None:
        """Kills the process and waits until it has ended."""
        self.kill()
        self.process.__exit__(None, None, None)
        self._stderr.close()

    def _read_line(self, end: float) -> bytes:
        stdout = self.process.stdout
        assert stdout is not None  # noqa: S101 (it is a pipe)
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if len(line) > MAX_ANSWER_BYTES:
                    raise BenchmarkFailed(
                        f"{self.name}: its process sent more than {MAX_ANSWER_BYTES} bytes at once."
                    )
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise TimeoutError(
                        f"{self.name} was not measured in the time given; give it more seconds."
                    )
                chunk = os.read(stdout.fileno(), 2**16)
                if not chunk:
                    raise self._ended()
                line += chunk
        return line

    def _ended(self) -> BenchmarkFailed:
        # The child has closed its output, but may still run.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END_S)
        self.kill()
        code = self.process.wait()
        self._stderr.seek(0)
        last = (self._stderr.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        return BenchmarkFailed(f"{self.name}: its process ended ({code}): {last[:300]}")


class Children:
    """The child processes of one run; a context manager that ends them all."""

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._lock = threading.Lock()
        self._is_stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for child in self._children:
            child.close()

    def start(self, name: str, command: Sequence[str]) -> Child:
        """Starts a child process. Raises BenchmarkFailed after `stop`."""
        with self._lock:
            if self._is_stopped:
                raise BenchmarkFailed("The benchmark was stopped.")
            self._children.append(Child(name, command))
            return self._children[-1]

    def stop(self) -> None:
        """Kills all children, starts no others, and wakes threads that wait for one. Thread-safe."""
        with self._lock:
            self._is_stopped = True
            for child in self._children:
                child.kill()
