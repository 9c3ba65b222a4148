"""The command line as a process of its own: started, read, and stopped by its process id."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from live import wait_until

SERVE = (sys.executable, "-m", "service", "serve", "--port", "0")
READY_S = 120
STOP_S = 30


@dataclass
class Server:
    """A running `resnet-heads serve`; `lines` is what it has printed so far."""

    process: subprocess.Popen
    lines: list[str] = field(default_factory=list)
    url: str = ""

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit code after the signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_S)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """A command that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=READY_S,
        check=False,
    )


def resident_mb(server: Server) -> float:
    """Physical memory of a server, in millions of bytes."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) / 1e6 for line in lines if line.startswith("VmRSS"))


@contextmanager
def serving(store, *flags: str, command=None, **environment: str) -> Iterator[Server]:
    """`serve` on a free port, or another command like it, once it says where it is."""
    at_once = {"RESNET_HEADS_DRAIN_DELAY_S": "0"}
    process = subprocess.Popen(
        command or [*SERVE, "--store-dir", store.root, "--cache-dir", store.cache, *flags],
        env=os.environ | at_once | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    server = Server(process)
    reader = threading.Thread(target=_read, args=(server,), daemon=True)
    reader.start()
    try:
        wait_until(lambda: server.url or process.poll() is not None, READY_S)
        assert server.url, "".join(server.lines)
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(STOP_S)
        reader.join(STOP_S)
        process.stderr.close()


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _read(server: Server) -> None:
    for line in server.process.stderr:
        server.lines.append(line)
        if found := re.search(r"Serving .* on ([^\s\"]+)", line):  # also in JSON
            server.url = found[1]
