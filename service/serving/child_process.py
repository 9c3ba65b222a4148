"""Runs a command in a child process that has a time limit and is killed when the service stops."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

POLL_S = 0.05
MAX_ERROR_BYTES = 2**16

NEVER = threading.Event()


@dataclass(frozen=True)
class Ended:
    """The exit status of a process, negative for a signal, and the last line of its stderr."""

    status: int
    last_line: str


def run(command: Sequence[str], limit_s: float, stopping: threading.Event = NEVER) -> Ended:
    """Runs a command and waits for it; afterwards kills all processes that it started.

    It is killed once `stopping` is set. Its stdin closes when this process ends in any way. Raises
    OSError if it cannot be started, and TimeoutError if it takes longer than `limit_s`.
    """
    end = time.monotonic() + limit_s
    with (
        tempfile.TemporaryFile() as errors,  # A file, because a pipe could fill up and block the child.
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        ) as child,
    ):
        try:
            while child.poll() is None and not stopping.wait(POLL_S):
                if time.monotonic() > end:
                    raise TimeoutError(f"it took longer than {limit_s:g} s")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        status = child.wait()
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - MAX_ERROR_BYTES))
        lines = errors.read().decode(errors="replace").strip().splitlines()
    return Ended(status, lines[-1] if lines else "no message")


def end_with_parent() -> None:
    """Called in a child: ends it as soon as its stdin closes, because its parent has then ended."""

    def wait() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
