"""How a server stops: real processes on fake heads, ended by real signals."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest
from children import is_alive
from fakes import picture, publish, publish_network
from live import wait_until
from process import free_port, serving

from service.store.layout import Store

SLOW_S = 1.5
SERVE = """
import sys, threading, socket, uvicorn
from fakes import SlowHead, fake_heads, head
from service.app import create_app
from service.server import DrainingServer
from service.settings import Settings

settings = Settings()
stopping = threading.Event()
listener = socket.create_server(("127.0.0.1", 0))
def announce(heads):
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    print(f"Serving {heads} on {url}", file=sys.stderr, flush=True)
heads = fake_heads(head("gap"), head("slow", SlowHead(SECONDS)))
app = create_app(settings, heads, announce, stopping)
timeout_s = int(settings.drain_timeout_s)
config = uvicorn.Config(app, timeout_graceful_shutdown=timeout_s, log_level="warning")
DrainingServer(config, stopping, settings.drain_delay_s).run(sockets=[listener])
"""


@pytest.fixture
def serve():
    """`with serve(drain_delay_s=1) as server`: `gap`, and `slow`, which takes SLOW_S."""

    def start(slow_s=SLOW_S, **settings):
        environment = {f"RESNET_HEADS_{name.upper()}": str(value) for name, value in settings.items()}
        code = "import sys\nsys.path[:0] = " + repr(sys.path) + SERVE.replace("SECONDS", str(slow_s))
        return serving(None, command=[sys.executable, "-c", code], **environment)

    return start


def ask(url, head="gap"):
    return httpx.post(f"{url}/predict?head={head}", content=picture(), timeout=20)


def is_ready(url):
    return httpx.get(f"{url}/readyz").is_success


def listens(url):
    target = urlsplit(url)
    try:
        socket.create_connection((target.hostname, target.port), 1).close()
    except OSError:
        return False
    return True


def test_told_to_stop_it_is_not_ready_at_once_and_serves_on_for_the_delay(serve):
    with serve(drain_delay_s=1.5) as server, httpx.Client(base_url=server.url) as kept:
        assert kept.get("/readyz").is_success
        assert "connection" not in kept.get("/healthz").headers
        told = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_ready(server.url))
        assert time.monotonic() - told < 0.5
        refused = httpx.get(f"{server.url}/readyz")
        assert (refused.status_code, refused.json()["detail"]) == (503, "The service is stopping.")
        while time.monotonic() - told < 1.2:
            answer = ask(server.url)
            assert answer.status_code == 200, "a balancer that has not noticed yet still gets answers"
            if time.monotonic() - told > 0.4:
                assert answer.headers["connection"] == "close"
            time.sleep(0.05)
        assert kept.get("/healthz").headers["connection"] == "close"
        assert server.process.wait(10) == 0
        assert time.monotonic() - told >= 1.5
        assert not listens(server.url)


def test_what_has_begun_is_finished_after_the_listener_has_closed(serve):
    with serve(drain_delay_s=0.2) as server, ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask, server.url, "slow") for _ in range(2)]
        wait_until(lambda: "resnet_heads_pending_images 2.0" in httpx.get(f"{server.url}/metrics").text)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not listens(server.url))
        assert not any(one.done() for one in asked), "they were still in work"
        assert [one.result().status_code for one in asked] == [200, 200]
        assert server.process.wait(10) == 0


def test_what_takes_longer_than_the_timeout_is_cut_off(serve):
    with serve(slow_s=8, drain_delay_s=0, drain_timeout_s=1) as server, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, server.url, "slow")
        wait_until(lambda: "resnet_heads_pending_images 1.0" in httpx.get(f"{server.url}/metrics").text)
        server.process.send_signal(signal.SIGTERM)
        assert asked.exception(5) is not None or asked.result().status_code >= 500
        assert server.process.wait(20) == 0


def test_who_has_connected_when_the_listener_closes_is_served(serve):
    """Connections that the kernel has made and nobody has taken yet: it would reset them."""
    body = picture()
    head = f"POST /predict?head=gap HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
    with serve(drain_delay_s=0.3) as server:
        target = urlsplit(server.url)
        server.process.send_signal(signal.SIGTERM)
        told, end = [], time.monotonic() + 5
        while listens(server.url) and time.monotonic() < end:
            with contextlib.suppress(ConnectionRefusedError):
                one = socket.create_connection((target.hostname, target.port), 10)
                one.sendall(head.encode() + body)
                told.append(one)
        answers = [one.recv(2**16) for one in told]
        for one in told:
            one.close()
        assert server.process.wait(10) == 0
    assert len(answers) > 20
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)


def test_told_to_listen_when_ready_it_refuses_connections_before(small_store):
    flags = ("serve", "--listen-when-ready", "true", "--store-dir", str(small_store.root))
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "service",
        *flags,
        "--port",
        str(port),
        "--cache-dir",
        small_store.cache,
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: listens(url), 60)
        assert httpx.get(f"{url}/readyz").status_code == 200, "it took a connection before it was ready"
    finally:
        process.kill()
        process.wait(10)


def test_told_twice_it_ends_at_once(serve):
    with serve(drain_delay_s=30) as server:
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_ready(server.url))
        told = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(5) == 128 + signal.SIGTERM
        assert time.monotonic() - told < 1


def test_a_person_who_presses_ctrl_c_does_not_wait(serve):
    with serve(drain_delay_s=30) as server:
        told = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        server.process.wait(5)
        assert time.monotonic() - told < 3


LOADING = """
import errno, sys, threading, time, uvicorn
from functools import partial
from pathlib import Path
from fakes import FakeEngine
from process import free_port
from service.app import create_app
from service.server import DrainingServer
from service.serving.heads import Heads
from service.serving.rebuild import compile_in_child
from service.settings import Settings
from service.store.layout import Store

settings, stopping, port = Settings(), threading.Event(), free_port()
store = Store(settings.store_dir, settings.cache_dir)
rebuild = partial(compile_in_child, stopping=stopping, command=[sys.executable, "-c", "HUNG"])
errors = [OSError(errno.EIO, "Input/output error")]
def open_engine():
    print("opening", file=sys.stderr, flush=True)
    if "OPENS" == "never":
        time.sleep(600)
    if "OPENS" == "late" and errors:
        raise errors.pop()
    return FakeEngine()
heads = Heads(store, open_engine, 2, rebuild, stopping=stopping)
ready = lambda heads: print(f"ready: {heads}", file=sys.stderr, flush=True)
app = create_app(settings, heads, ready, stopping)
config = uvicorn.Config(app, port=port, timeout_graceful_shutdown=1, log_level="warning")
print(f"Serving nothing on http://127.0.0.1:{port}", file=sys.stderr, flush=True)
DrainingServer(config, stopping, settings.drain_delay_s).run()
"""
HUNG = "import os, time; os.mkdir(str(os.getpid())); time.sleep(600)"


@pytest.fixture
def load(tmp_path):
    """`with load(opens="late") as server`, whose store has one head.

    Its engine opens at once, at the second try (`late`), or `never`. Without compiled files they are
    derived by a process that hangs, and whose process id is a folder of `tmp_path / "hung"`.
    """
    store = Store(tmp_path / "store", tmp_path / "cache")
    for folder in (store.root, tmp_path / "hung"):
        folder.mkdir()
    publish(store)

    def start(opens="at once", is_compiled=True, **settings):
        if is_compiled:
            for digest in ("b" * 64, "e" * 64):
                publish_network(store, digest)
        settings |= {"store_dir": store.root, "cache_dir": store.cache}
        environment = {f"RESNET_HEADS_{name.upper()}": str(value) for name, value in settings.items()}
        hung = f"import os; os.chdir({str(tmp_path / 'hung')!r}); {HUNG}"
        code = LOADING.replace("OPENS", opens).replace('"HUNG"', repr(hung))
        code = "import sys\nsys.path[:0] = " + repr(sys.path) + code
        return serving(None, command=[sys.executable, "-c", code], **environment)

    return start


@pytest.mark.parametrize("poll_s", [0.2, 3600])
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("listens_when_ready", [False, True])
def test_a_load_that_hangs_does_not_hold_up_the_end(load, listens_when_ready, number):
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
