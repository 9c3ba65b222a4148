"""How a server stops: real processes on fake heads, ended by real signals."""

import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest
from children import is_alive, python
from fakes import picture, publish
from process import MODULES, READY_S, STOP_S, reserved_port, serving
from stored import empty, publish_compiled_files
from waiting import PATIENCE_S, wait_until

NEVER_S = 10 * PATIENCE_S
CLOSING = "Closing\n"
SERVE = """
import sys, threading, socket, uvicorn
from pathlib import Path
from fakes import EchoHead, fake_heads, head
from waiting import wait_until
from service.app import create_app
from service.cli.serve import DrainingServer
from service.settings import Settings

def wait(what):
    wait_until(lambda: not Path("FOLDER", what).exists())

class HeldHead(EchoHead):
    def compute(self, batch):
        wait("head")
        return super().compute(batch)

class HeldServer(DrainingServer):
    async def shutdown(self, sockets=None):
        print("Closing", file=sys.stderr, flush=True)
        wait("listener")
        await super().shutdown(sockets)

settings = Settings()
stopping = threading.Event()
listener = socket.create_server(("127.0.0.1", 0))
def announce(heads):
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    print(f"Serving {heads} on {url}", file=sys.stderr, flush=True)
heads = fake_heads(head("gap"), head("held", HeldHead()))
app = create_app(settings, heads, announce, stopping)
timeout_s = int(settings.drain_timeout_s)
config = uvicorn.Config(app, timeout_graceful_shutdown=timeout_s, log_level="warning")
HeldServer(config, stopping, settings.drain_delay_s).run(sockets=[listener])
"""


@pytest.fixture
def serve(tmp_path):
    """`with serve(drain_delay_s=1) as server`: `gap`, and `held`.

    While there is a file `head`, `held` does not answer; while there is `listener`, none is closed.
    """

    def start(**settings):
        settings |= {"request_timeout_s": NEVER_S}
        environment = {f"RESNET_HEADS_{name.upper()}": str(value) for name, value in settings.items()}
        code = SERVE.replace("FOLDER", str(tmp_path))
        return serving(None, command=python(code), **MODULES, **environment)

    return start


def ask(url, head="gap"):
    return httpx.post(f"{url}/predict?head={head}", content=picture(), timeout=NEVER_S)


def is_ready(url):
    return httpx.get(f"{url}/readyz").is_success


def listens(url):
    target = urlsplit(url)
    try:
        socket.create_connection((target.hostname, target.port), 1).close()
    except OSError:
        return False
    return True


def pending(url, count):
    return f"resnet_heads_pending_images {count}.0" in httpx.get(f"{url}/metrics").text


def test_told_to_stop_it_is_not_ready_and_serves_on_with_answers_that_close_connections(serve):
    with serve(drain_delay_s=NEVER_S) as server, httpx.Client(base_url=server.url) as kept:
        assert kept.get("/readyz").is_success
        assert "connection" not in kept.get("/healthz").headers
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_ready(server.url))
        refused = httpx.get(f"{server.url}/readyz")
        assert (refused.status_code, refused.json()["detail"]) == (503, "The service is stopping.")
        wait_until(lambda: kept.get("/healthz").headers.get("connection") == "close")
        answer = ask(server.url)
        assert answer.status_code == 200, "a balancer that has not noticed yet still gets answers"
        assert answer.headers["connection"] == "close"


def test_it_serves_on_for_the_delay_and_ends(serve):
    with serve(drain_delay_s=1) as server:
        told = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - told >= 1
        assert not listens(server.url)


def test_what_has_begun_is_finished_after_the_listener_has_closed(serve, tmp_path):
    (tmp_path / "head").touch()
    with serve(drain_delay_s=0) as server, ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, server.url, "held") for _ in range(2)]
        wait_until(lambda: pending(server.url, 2))
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not listens(server.url))
        assert not any(one.done() for one in asked), "they were still in work"
        (tmp_path / "head").unlink()
        assert [one.result().status_code for one in asked] == [200, 200]
        assert server.process.wait(PATIENCE_S) == 0


def test_what_takes_longer_than_the_timeout_is_cut_off(serve, tmp_path):
    (tmp_path / "head").touch()
    with serve(drain_delay_s=0, drain_timeout_s=1) as server, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, server.url, "held")
        wait_until(lambda: pending(server.url, 1))
        server.process.send_signal(signal.SIGTERM)
        assert asked.exception(PATIENCE_S) is not None or asked.result().status_code >= 500
        (tmp_path / "head").unlink()
        assert server.process.wait(PATIENCE_S) == 0


def test_who_has_connected_when_the_listener_closes_is_served(serve, tmp_path):
    """Connections that the kernel has made and nobody has taken yet: it would reset them."""
    body = picture()
    head = f"POST /predict?head=gap HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
    (tmp_path / "listener").touch()
    with serve(drain_delay_s=0) as server, ExitStack() as stack:
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: CLOSING in server.lines)
        target = urlsplit(server.url)
        told = [
            stack.enter_context(socket.create_connection((target.hostname, target.port), PATIENCE_S))
            for _ in range(20)
        ]
        for one in told:
            one.sendall(head.encode() + body)
        (tmp_path / "listener").unlink()
        answers = [one.recv(2**16) for one in told]
        assert server.process.wait(PATIENCE_S) == 0
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)


def test_told_to_listen_when_ready_it_refuses_connections_before(small_store):
    with reserved_port() as port:
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
        command += ["--store-dir", small_store.root, "--cache-dir", small_store.cache]
        command += ["--listen-when-ready", "true"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: listens(url), READY_S)
            assert httpx.get(f"{url}/readyz").status_code == 200, "it listened before it was ready"
        finally:
            process.kill()
            process.wait(STOP_S)


def test_told_twice_it_ends_at_once(serve):
    with serve(drain_delay_s=NEVER_S) as server:
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_ready(server.url))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 128 + signal.SIGTERM


def test_a_person_who_presses_ctrl_c_does_not_wait(serve):
    with serve(drain_delay_s=NEVER_S) as server:
        server.stop(signal.SIGINT)


LOADING = """
import sys, threading, time, uvicorn
from functools import partial
from pathlib import Path
from fakes import FakeEngine
from stored import heads_of, io_error
from service.app import create_app
from service.cli.serve import bound
from service.cli.serve import DrainingServer
from service.serving.rebuild import compile_in_child
from service.settings import Settings
from service.store.layout import Store

settings, stopping, listener = Settings(), threading.Event(), bound("127.0.0.1", 0)
port = listener.getsockname()[1]
store = Store(settings.store_dir, settings.cache_dir)
rebuild = partial(compile_in_child, stopping=stopping, command=[sys.executable, "-c", "HUNG"])
errors = [io_error()]
def open_engine():
    print("opening", file=sys.stderr, flush=True)
    if "OPENS" == "never":
        time.sleep(600)
    if "OPENS" == "late" and errors:
        raise errors.pop()
    return FakeEngine()
heads = heads_of(store, open_engine, rebuild, stopping=stopping)
ready = lambda heads: print(f"ready: {heads}", file=sys.stderr, flush=True)
app = create_app(settings, heads, ready, stopping)
config = uvicorn.Config(app, timeout_graceful_shutdown=1, log_level="warning")
print(f"Serving nothing on http://127.0.0.1:{port}", file=sys.stderr, flush=True)
DrainingServer(config, stopping, settings.drain_delay_s).run(sockets=[listener])
"""
HUNG = "import os, time; os.mkdir(str(os.getpid())); time.sleep(600)"


@pytest.fixture
def load(tmp_path):
    """`with load(opens="late") as server`, whose store has one head.

    Its engine opens at once, at the second try (`late`), or `never`. Without compiled files they are
    derived by a process that hangs, and whose process id is a folder of `tmp_path / "hung"`.
    """
    store = empty(tmp_path)
    (tmp_path / "hung").mkdir()
    publish(store)

    def start(opens="at once", is_compiled=True, **settings):
        if is_compiled:
            publish_compiled_files(store)
        settings |= {"store_dir": store.root, "cache_dir": store.cache}
        environment = {f"RESNET_HEADS_{name.upper()}": str(value) for name, value in settings.items()}
        hung = f"import os; os.chdir({str(tmp_path / 'hung')!r}); {HUNG}"
        code = LOADING.replace("OPENS", opens).replace('"HUNG"', repr(hung))
        return serving(None, command=python(code), **MODULES, **environment)

    return start


@pytest.mark.parametrize("poll_s", [0.2, pytest.param(3600, marks=pytest.mark.slow)])
def test_a_first_load_that_failed_by_an_io_error_is_made_up_for(load, poll_s):
    """Also by /readyz and the log, and well before the next poll where that is far."""
    with load("late", reload_poll_s=poll_s) as server:
        wait_until(lambda: listens(server.url))
        assert httpx.get(f"{server.url}/healthz").is_success
        wait_until(lambda: "Input/output error" in "".join(server.lines))
        wait_until(lambda: is_ready(server.url), 60)
        assert ask(server.url).status_code == 200
        wait_until(lambda: "ready: ['gap']" in "".join(server.lines))
        assert "".join(server.lines).count("not ready: Heads could not be loaded") == 1
        assert server.stop() == 0


def hung(tmp_path):
    return [int(one.name) for one in (tmp_path / "hung").iterdir()]


@pytest.mark.parametrize(
    ("number", "listens_when_ready"),
    [
        (signal.SIGTERM, False),
        (signal.SIGINT, True),
        pytest.param(signal.SIGTERM, True, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, False, marks=pytest.mark.slow),
    ],
)
def test_a_load_that_hangs_does_not_hold_up_the_end(load, number, listens_when_ready):
    settings = {"drain_delay_s": 0, "listen_when_ready": listens_when_ready}
    with load("never", **settings) as server:
        wait_until(lambda: "opening\n" in server.lines)
        assert not (listens_when_ready and listens(server.url))
        told = time.monotonic()
        assert server.stop(number) in (0, -number)
        assert time.monotonic() - told < 8


def test_a_rebuild_that_hangs_is_ended_with_the_server(load, tmp_path):
    with load(is_compiled=False, drain_delay_s=0) as server:
        wait_until(lambda: hung(tmp_path))
        assert "Heads are still loading" in httpx.get(f"{server.url}/readyz").text
        told = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - told < 8
        wait_until(lambda: not any(map(is_alive, hung(tmp_path))))
    assert "stays out" not in "".join(server.lines)
