"""A Ray cluster of two nodes on this machine, each with its own raylet, processes and session.

Ray is started and asked by its commands only: importing it here would bring its warnings. All processes
of a node are in one session, by which they are stopped, also those that the node has lost.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from waiting import wait_until

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
START_S = 60
STOP_S = 20
POLL_S = 0.25  # its cores are for the work
OBJECT_STORE_BYTES = 80_000_000  # little more than the least that Ray takes
# a raylet's own ports are random; --block keeps `ray start` in front of what it has started
RAY_START = (BIN / "ray", "start", "--block", "--disable-usage-stats", "--num-cpus=1")
PORTS = ("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@dataclass(frozen=True)
class Node:
    """One node, by its `ray start`, which leads the session of all its processes."""

    process: subprocess.Popen

    def pids(self) -> set[int]:
        """Its living processes."""
        return {pid for pid, session in _sessions() if session == self.process.pid}

    def kill(self) -> None:
        """SIGKILL to all of them, as when a machine is lost, and to what they start meanwhile."""

        def is_dead() -> bool:
            pids = self.pids()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not pids

        wait_until(is_dead, STOP_S)
        self.process.wait(STOP_S)


@dataclass(frozen=True)
class Cluster:
    """`head` also runs what the cluster has once: its directory, the Serve controller, the dashboard."""

    folder: Path
    head: Node
    worker: Node
    dashboard: str
    port: int  # of the proxy on the head

    def serve(self, line: str, folder: Path) -> str:
        """What a `serve ...` line prints; it must succeed."""
        environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=folder,
            env=environment | {"RAY_DASHBOARD_ADDRESS": self.dashboard},
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def application(self) -> dict:
        """What Serve says of the one application."""
        url = f"{self.dashboard}/api/serve/applications/"
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 (http, on loopback)
            return json.load(answer)["applications"]["resnet-heads"]

    def replicas(self) -> list[int]:
        """The process ids of the replicas that take requests."""
        (deployment,) = self.application()["deployments"].values()
        return [one["pid"] for one in deployment["replicas"] if one["state"] == "RUNNING"]

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Polls as often as a busy cluster can bear."""
        wait_until(condition, seconds, POLL_S)

    def log(self, pid: int) -> str:
        """What a process wrote to stderr, wherever Ray put it."""
        (file,) = self.folder.glob(f"session_latest/logs/worker-*-{pid}.err")
        return file.read_text()


@contextmanager
def two_nodes(**environment: str) -> Iterator[Cluster]:
    """Two nodes of one CPU each; nothing of them is left afterwards, however it ends."""
    gcs, client, dashboard, head_port, worker_port = free_ports(5)
    environment = os.environ | environment | {"PYTHONPATH": f"{ROOT}:{ROOT / 'deploy/ray'}"}

    def start(name: str, *arguments: str, **more: str) -> Node:
        log = folder / f"{name}.log"
        command = [*RAY_START, *PORTS, f"--object-store-memory={OBJECT_STORE_BYTES}", *arguments]
        with log.open("w") as file:
            process = subprocess.Popen(
                command, env=environment | more, stdout=file, stderr=file, start_new_session=True
            )
        node = Node(process)
        stack.callback(node.kill)
        wait_until(lambda: "started" in log.read_text() or process.poll() is not None, START_S, POLL_S)
        assert process.poll() is None, log.read_text()
        return node

    # the path of a socket may have 107 bytes: not pytest's folder
    temporary = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
    with temporary as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        head = start(
            "head",
            "--head",
            f"--port={gcs}",
            f"--ray-client-server-port={client}",
            f"--dashboard-port={dashboard}",
            f"--temp-dir={folder}",
        )
        # on one machine both proxies would share a port: the kernel would deal connections out
        second = {"RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(worker_port)}
        worker = start("worker", f"--address=127.0.0.1:{gcs}", **second)
        yield Cluster(folder, head, worker, f"http://127.0.0.1:{dashboard}", head_port)


def _sessions() -> Iterator[tuple[int, int]]:
    """The process and session id of every process that is no zombie."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # after the name, which may hold anything: state, parent, group, session
            state, _, _, session, *_ = stat.read_text().rpartition(")")[2].split()
            if state != "Z":
                yield int(stat.parent.name), int(session)
