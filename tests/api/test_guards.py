import socket
import threading
import time

import httpx
import pytest
from fakes import HeldBackbone, backbone, fake_heads, head, picture
from waiting import wait_until

RED = picture("red")


def raw(client: httpx.Client) -> socket.socket:
    """A plain connection to the client's server."""
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=20)


def open_request(client: httpx.Client, length: int) -> socket.socket:
    """A connection that has sent the head of a POST /predict and nothing of its body."""
    connection = raw(client)
    connection.sendall(f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
    return connection


def read_status(connection: socket.socket) -> int:
    """The status of an answer after which the server closes the connection."""
    with connection:
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(answer.split()[1])


@pytest.fixture
def held(connect):
    """A client, and the backbone that keeps its server's engine busy until released."""
    network = HeldBackbone()
    heads = fake_heads(head("gap", on=backbone(network)))
    yield lambda **settings: (connect(heads, **settings), network)
    network.release.set()


def in_background(client: httpx.Client, answers: list) -> threading.Thread:
    thread = threading.Thread(target=lambda: answers.append(client.post("/predict", content=RED)))
    thread.start()
    return thread


@pytest.mark.parametrize("header", [{"X-API-Key": "right"}, {"Authorization": "Bearer right"}])
def test_a_right_key_is_let_in_by_either_header(connect, header):
    client = connect(api_keys="other, right")
    assert client.post("/predict", content=RED, headers=header).status_code == 200
    assert client.get("/heads", headers=header).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "wrong"},
        {"Authorization": "Basic right"},
        {"X-API-Key": "rïght"},
    ],
)
def test_no_key_or_a_wrong_one_is_401(connect, header):
    client = connect(api_keys="right")
    encoded = {name: value.encode("latin-1") for name, value in header.items()}
    for path in ("/predict", "/compare"):
        response = client.post(path, content=RED, headers=encoded)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
    assert client.get("/heads", headers=encoded).status_code == 401


def test_health_needs_no_key_and_metrics_by_setting(connect):
    client = connect(api_keys="right")
    assert [client.get(path).status_code for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3
    closed = connect(api_keys="right", open_metrics=False)
    assert closed.get("/metrics").status_code == 401
    assert closed.get("/metrics", headers={"X-API-Key": "right"}).status_code == 200


def test_a_body_that_trickles_is_408_and_holds_nobody_up(connect):
    client = connect(body_timeout_s=0.5)
    started = time.monotonic()
    connection = open_request(client, 1000)
    connection.sendall(b"x")
    assert client.post("/predict", content=RED).status_code == 200
    assert read_status(connection) == 408
    assert time.monotonic() - started >= 0.5


def test_a_declared_length_that_is_too_long_is_413_before_the_body_is_sent(connect):
    client = connect(max_body_bytes=1000)
    connection = open_request(client, 1001)
    assert read_status(connection) == 413


def test_a_client_that_hangs_up_while_queued_never_reaches_the_engine(held):
    client, network = held()
    answers = []
    first = in_background(client, answers)
    network.entered.wait(20)
    connection = open_request(client, len(RED))
    connection.sendall(RED)
    wait_until(lambda: "resnet_heads_pending_images 2.0" in client.get("/metrics").text)
    connection.close()
    wait_until(lambda: "resnet_heads_pending_images 1.0" in client.get("/metrics").text)
    network.release.set()
    first.join(20)
    assert answers[0].status_code == 200
    assert client.post("/predict", content=RED).status_code == 200
    assert network.sizes == [1, 1]


def test_a_client_that_hangs_up_in_its_body_is_forgotten(client):
    connection = open_request(client, 1000)
    connection.sendall(b"x")
    connection.close()
    assert client.post("/predict", content=RED).status_code == 200


def test_a_full_queue_is_429_with_a_time_to_retry(held):
    client, network = held(max_queued_images=2)
    answers = []
    threads = [in_background(client, answers) for _ in range(2)]
    wait_until(lambda: "resnet_heads_pending_images 2.0" in client.get("/metrics").text)
    refused = client.post("/predict", content=RED)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    network.release.set()
    for thread in threads:
        thread.join(20)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert client.post("/predict", content=RED).status_code == 200


def test_an_accepted_request_that_outlasts_its_deadline_is_504(held):
    client, _ = held()
    response = client.post("/predict", content=RED, headers={"X-Request-Timeout-Ms": "200"})
    assert response.status_code == 504


def test_the_deadline_is_capped_by_the_setting(held):
    client, _ = held(request_timeout_s=0.2)
    response = client.post("/predict", content=RED, headers={"X-Request-Timeout-Ms": "60000"})
    assert response.status_code == 504


def test_liveness_answers_while_the_engine_is_busy(held):
    client, network = held()
    thread = in_background(client, [])
    network.entered.wait(20)
    assert client.get("/healthz").status_code == 200
    network.release.set()
    thread.join(20)
