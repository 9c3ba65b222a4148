"""Real nginx and real HAProxy before two real servers: roll-outs, kills, overload, slow clients."""

import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest
from fakes import picture
from fleet.replicas import replicas
from load.run import load, loaded

pytestmark = pytest.mark.fleet

CLIENTS = 8
ROLLED = 3000
ROUNDS = range(3, 13)
# a delay above the second and a half that HAProxy needs to notice; the other as in deploy/compose.yaml
FLAGS = ("--drain-delay-s", "2", "--listen-when-ready", "true")
RED = picture(size=(64, 64))


def ports(servers):
    return [one.port for one in servers]


def test_a_rolling_restart_fails_no_request(small_store, proxy, small_picture, ledger):
    answered = 0
    with (
        replicas(small_store, 2, *FLAGS) as servers,
        proxy(ports(servers)) as url,
        load([f"{url}/predict"], small_picture, clients=CLIENTS) as under_way,
    ):
        for number in range(max(ROUNDS)):
            for one in servers:
                answered += one.counted(200)
                one.restart()
            if number + 1 >= min(ROUNDS) and answered > ROLLED:
                break
    ledger.add(under_way.statuses(), f"{2 * (number + 1)} restarts")
    assert under_way.failed() == []
    assert under_way.statuses()[200] >= ROLLED


def test_a_kill_loses_at_most_what_was_in_work(small_store, proxy, small_picture, ledger):
    with (
        replicas(small_store, 2) as servers,
        proxy(ports(servers)) as url,
        load([f"{url}/predict"], small_picture, clients=CLIENTS) as under_way,
    ):
        time.sleep(2)
        servers[0].kill()
        killed = time.monotonic()
        time.sleep(3)
    failed = under_way.failed()
    ledger.add(under_way.statuses(), f"{len(failed)} lost of at most {CLIENTS} in work")
    assert len(failed) <= CLIENTS
    assert all(one.due <= killed for one in failed), "it was asked after it had died"
    assert all(one.status in (0, 502) for one in failed)
    assert len(under_way.of(200, since=killed + 1)) > 20, "the other one did not serve on"


def test_a_replica_that_refuses_stays_in(small_store, proxy, small_picture, ledger):
    full = ("--max-queued-images", "1")
    with replicas(small_store, 2, *full) as servers, proxy(ports(servers)) as url:
        flood = loaded([f"{url}/predict"], small_picture, clients=2 * CLIENTS, seconds=3)
        ledger.add(flood.statuses())
        assert flood.failed() == []
        assert flood.statuses()[429] > 100
        told = [(one.counted(200), one.counted(429)) for one in servers]
        assert all(answered and refused for answered, refused in told), told
        sums = tuple(map(sum, zip(*told, strict=True)))
        assert sums == (flood.statuses()[200], flood.statuses()[429]), (
            "not every request is accounted for"
        )
        for _ in range(6):
            assert httpx.post(f"{url}/predict", content=RED).status_code == 200
        assert all(one.counted(200) > before for one, (before, _) in zip(servers, told, strict=True))


def test_idle_connections_give_no_502(small_store, proxy, small_picture, ledger):
    """2,000 requests, each of which comes when a connection has nearly been idle for too long.

    The times are a sixtieth of the real ones: a proxy keeps idle connections for one second, and a
    replica for two.
    """
    shorter = {
        "nginx": {"keepalive_timeout 60s": "keepalive_timeout 1s"},
        "haproxy": {"pool-purge-delay 30s": "pool-purge-delay 500ms"},
    }
    idle = {"clients": 60, "pause": 1.0, "seconds": 38}
    with (
        replicas(small_store, 2, "--keep-alive-s", "2") as servers,
        proxy(ports(servers), **shorter) as url,
    ):
        idling = loaded([f"{url}/predict"], small_picture, **idle)
    ledger.add(idling.statuses(), "a pause of 1 s before each")
    assert idling.failed() == []
    assert len(idling.sent) >= 2000


def drip(url: str, head: bytes, dripped: bytes, every_s: float) -> tuple[bytes, float]:
    """What the other side says to a client that sends so slowly, and after how many seconds."""
    target, started = urlsplit(url), time.monotonic()
    with socket.create_connection((target.hostname, target.port), 10) as connection:
        connection.sendall(head)
        connection.settimeout(every_s)
        for byte in dripped:
            try:
                told = connection.recv(2**16)
                return told, time.monotonic() - started
            except TimeoutError:
                connection.sendall(bytes([byte]))
    raise AssertionError("nobody ended it")


def test_a_client_that_drips_is_ended_and_holds_nobody_up(small_store, proxy):
    shorter = {
        "nginx": {"client_header_timeout 10s": "client_header_timeout 2s"},
        "haproxy": {"timeout http-request 10s": "timeout http-request 2s"},
    }
    line = b"POST /predict HTTP/1.1\r\nHost: slow\r\n"
    with (
        replicas(small_store, 2, "--body-timeout-s", "2") as servers,
        proxy(ports(servers), **shorter) as url,
    ):
        slow = {
            "headers": (line, b"X-Slow: " + b"x" * 60),
            "body": (line + b"Content-Length: 1000\r\n\r\n", b"x" * 60),
        }
        for what, (head, dripped) in slow.items():
            told, seconds = drip(url, head, dripped, 0.2)
            assert seconds < 5, what
            assert not told or b" 408 " in told.partition(b"\r\n")[0], (what, told)
            if what == "body":
                assert b"urn:resnet-heads:problem:body-too-slow" in told
            started = time.monotonic()
            assert httpx.post(f"{url}/predict", content=RED).status_code == 200
            assert time.monotonic() - started < 2, "it held others up"
