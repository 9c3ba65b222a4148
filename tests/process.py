"""The command line as a process of its own: started, read, and stopped by its process id."""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from waiting import wait_until

from service.store.layout import Store

MODULES = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # a child imports what this one can
SERVE = (sys.executable, "-m", "service", "serve", "--port", "0")
READY_S = 120
END_S = 600
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
        timeout=END_S,
        check=False,
    )


def in_child(code: str) -> None:
    """Runs code that needs TensorFlow, which with oneDNN keeps the memory that it frees."""
    subprocess.run([sys.executable, "-c", code], env=os.environ | MODULES, timeout=END_S, check=True)


def initialised(folder: Path, weights: str) -> Store:
    """What `init --weights` makes, or has made before, in a child for the same reason."""
    store = Store(folder / "model_store", folder / "cache")
    places = ("--store-dir", str(store.root))
    done = run(
        "init", "--if-empty", "--weights", weights, *places, RESNET_HEADS_CACHE_DIR=str(store.cache)
    )
    assert done.returncode == 0, done.stderr
    return store


def resident_mb(server: Server | None = None) -> float:
    """Physical memory of a server, or else of this process, in millions of bytes."""
    process = server.process.pid if server else "self"
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) / 1e6 for line in lines if line.startswith("VmRSS"))


def peak_mb() -> float:
    """The most physical memory that this process ever had, in millions of bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


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


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that refuses connections, and that nobody gets who does not ask for it by its number."""
    with socket.socket() as holder:
        # where both have set this, a server may listen on a port that another is bound to
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def _read(server: Server) -> None:
    for line in server.process.stderr:
        server.lines.append(line)
        if found := re.search(r"(?:Serving .*|Uvicorn running) on ([^\s\"]+)", line):  # also in JSON
            server.url = found[1]
