"""Servers on ports that they keep over restarts, and real proxies before them."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from process import READY_S, STOP_S, Server, reserved_port, serving
from prometheus_client.parser import text_string_to_metric_families
from waiting import wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg"}


class Replica:
    """One `resnet-heads serve`, or another command like it."""

    def __init__(self, stack: ExitStack, store, flags: Sequence[str] = (), core: int | None = None):
        self.port = stack.enter_context(reserved_port())
        self.url = f"http://127.0.0.1:{self.port}"
        self._stack, self._store = stack, store
        pinned = ("taskset", "-c", str(core)) if core is not None else ()
        self._command = [*pinned, sys.executable, "-m", "service", "serve", "--port", str(self.port)]
        self._command += ["--store-dir", str(store.root), "--cache-dir", str(store.cache), *flags]
        self.start()

    def start(self) -> None:
        """Waits until it is ready."""
        self.server: Server = self._stack.enter_context(
            serving(self._store, command=self._command, RESNET_HEADS_LOG_LEVEL="warning")
        )
        wait_until(lambda: is_listening(self.port), READY_S)
        wait_until(lambda: httpx.get(f"{self.url}/readyz").is_success, READY_S)

    def restart(self) -> None:
        """As a roll-out does it: SIGTERM, and a new one once that has ended."""
        assert self.server.stop() == 0, "".join(self.server.lines)
        self.start()

    def kill(self) -> None:
        self.server.stop(signal.SIGKILL)

    def counted(self, status: int, route: str = "/predict") -> int:
        """How many requests it says it has answered so."""
        wanted = {"route": route, "status": str(status)}
        families = text_string_to_metric_families(httpx.get(f"{self.url}/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        return sum(
            int(one.value)
            for one in samples
            if one.name == "resnet_heads_requests_total" and one.labels == wanted
        )


@contextmanager
def replicas(store, count: int = 2, *flags: str, cores: bool = False) -> Iterator[list[Replica]]:
    """So many of them, ready; with `cores` each on a core of its own."""
    with ExitStack() as stack:
        yield [Replica(stack, store, flags, number if cores else None) for number in range(count)]


@contextmanager
def proxied(kind: str, ports: Sequence[int], folder: Path, changes: Mapping[str, str]) -> Iterator[str]:
    """The URL of a real nginx or HAProxy with our configuration; only addresses and paths are others.

    `changes` are what a test needs to be shorter.
    """
    with reserved_port() as port:
        config = folder / f"{kind}.conf"
        text = rendered(kind, ports, port, folder)
        for found, new in changes.items():
            assert found in text, f"no {found!r} in the configuration"
            text = text.replace(found, new)
        config.write_text(text)
        command = {
            "nginx": ["nginx", "-c", config, "-p", folder, "-e", "/dev/stderr", "-g", "daemon off;"],
            "haproxy": ["haproxy", "-db", "-f", config],
        }[kind]
        with (folder / f"{kind}.log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=with_sbin())
        try:
            wait_until(lambda: is_listening(port) or process.poll() is not None)
            assert process.poll() is None, (folder / f"{kind}.log").read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM if kind == "nginx" else signal.SIGUSR1)
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_S)


def rendered(kind: str, ports: Sequence[int], port: int, folder: Path) -> str:
    """The configuration in deploy/ with each of its addresses replaced."""
    text = (DEPLOY / FILES[kind]).read_text()
    text = text.replace("/tmp/", f"{folder}/")  # noqa: S108 (a container's own)
    text, listening = re.subn(r"(listen |bind :)8080", rf"\g<1>{port}", text)
    text = text.replace(f"listen {port}", f"listen 127.0.0.1:{port}")
    text = text.replace(f"bind :{port}", f"bind 127.0.0.1:{port}")
    assert listening == 1
    for number, replica in enumerate(ports, 1):
        text, found = re.subn(rf"\bserve-{number}:8000\b", f"127.0.0.1:{replica}", text)
        assert found, f"no server {number} in the configuration"
    assert ":8000" not in text
    return text


def has(kind: str) -> bool:
    """Whether that proxy is installed."""
    return shutil.which(kind, path=with_sbin()["PATH"]) is not None


def with_sbin() -> dict[str, str]:
    return os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
