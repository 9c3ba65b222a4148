"""What is refused at the door, before a body is read: over real sockets, with the engine held."""

import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest
from fakes import HeldBackbone, backbone, fake_heads, head, picture
from live import running
from waiting import wait_until

from service.app import create_app
from service.settings import Settings

SEATS = 2
KEY = {"X-API-Key": "k"}
ROUTES = ("/predict", "/compare", "/explain", "/shift", "/v2/models/gap/infer", "/v1/models/gap:predict")


@pytest.fixture
def full():
    """The URL of a server that asks for a key, and whose queue is full until the test is over."""
    base = backbone(HeldBackbone())
    settings = Settings(max_queued_images=SEATS, api_keys=("k",))
    with (
        running(create_app(settings, fake_heads(head("gap", on=base)))) as url,
        ThreadPoolExecutor(SEATS) as pool,
    ):
        wait_until(lambda: httpx.get(f"{url}/readyz").is_success)
        asked = [pool.submit(httpx.post, f"{url}/predict", content=picture(), headers=KEY, timeout=20)]
        assert base.network.entered.wait(20)
        asked.append(
            pool.submit(httpx.post, f"{url}/predict", content=picture(), headers=KEY, timeout=20)
        )
        wait_until(lambda: f"pending_images {SEATS}.0" in httpx.get(f"{url}/metrics").text)
        yield url
        base.network.release.set()
        assert [one.result().status_code for one in asked] == [200] * SEATS


@pytest.mark.parametrize("route", ROUTES)
def test_a_request_is_refused_before_its_body_has_come(full, route):
    target = urlsplit(full)
    with socket.create_connection((target.hostname, target.port), 10) as connection:
        head_only = f"POST {route} HTTP/1.1\r\nHost: h\r\nX-API-Key: k\r\nContent-Length: 9999\r\n\r\n"
        connection.sendall(head_only.encode())
        told = connection.recv(2**16).decode()
    assert told.startswith("HTTP/1.1 429 ")
    assert "retry-after: " in told.lower()
    assert "urn:resnet-heads:problem:too-busy" in told


def test_a_connection_goes_on_after_a_refusal(full):
    with httpx.Client(base_url=full, headers=KEY) as client:
        for _ in range(3):
            assert client.post("/predict", content=bytes(10**6)).status_code == 429


def test_who_has_no_key_is_not_told_that_it_is_busy(full):
    for _ in range(20):
        assert httpx.post(f"{full}/predict", content=picture()).status_code == 401
    refused = httpx.post(f"{full}/predict", content=picture(), headers=KEY)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) <= 2


def test_bearers_are_let_in_as_well(full):
    answer = httpx.post(f"{full}/predict", content=b"", headers={"Authorization": "Bearer k"})
    assert answer.status_code == 429


def test_other_routes_answer(full):
    with httpx.Client(base_url=full, headers=KEY) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/heads").status_code == 200
        assert client.get("/v2/models/gap").status_code == 200
        assert client.get("/predict").status_code == 405
        assert client.post("/nowhere").status_code == 404


def test_refusals_are_counted_under_their_route(full):
    httpx.post(f"{full}/compare", content=picture(), headers=KEY)
    told = httpx.get(f"{full}/metrics").text
    assert 'resnet_heads_requests_total{route="/compare",status="429"} 1.0' in told
    assert 'resnet_heads_refusals_total{reason="too-busy"} 1.0' in told
