"""Bodies that come slowly, in halves, or not at all: over real sockets."""

import asyncio
import base64
import gzip
import json
import re
import select
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from fakes import HeldBackbone, backbone, fake_heads, head, picture
from starlette.requests import Request
from waiting import wait_until

from service.api.body import WINDOW_S, Limits, read_body
from service.serving.capacity import Capacity, Permit

RED = picture("red")
MB = 2**20
JUNK = bytes(MB // 4)


def opened(client, length, sent=b"", header="X: y"):
    """A connection that has announced so many bytes and sent these."""
    connection = socket.create_connection((client.base_url.host, client.base_url.port), timeout=30)
    head_only = f"POST /predict HTTP/1.1\r\nHost: h\r\n{header}\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head_only.encode() + sent)
    return connection


def status(connection):
    return int(connection.recv(2**16).split()[1])


def metric(client, name):
    (value,) = re.findall(rf"^resnet_heads_{name} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(value)


def in_flight(client):
    return metric(client, "bytes_in_flight")


def test_64_bodies_that_arrive_slowly_are_all_answered_and_hold_nobody_up(connect):
    client = connect(max_queued_images=4)
    with ExitStack() as stack:
        slow = [stack.enter_context(opened(client, len(RED))) for _ in range(64)]
        for at in range(0, len(RED) - 1, len(RED) // 8):
            for connection in slow:
                connection.sendall(RED[: len(RED) - 1][at : at + len(RED) // 8])
            assert client.post("/predict", content=RED).status_code == 200
            time.sleep(0.05)
        for connection in slow:  # one behind the other: 64 at once would be too many for this queue
            connection.sendall(RED[-1:])
            assert status(connection) == 200
    wait_until(lambda: in_flight(client) == 0)


def test_clients_that_announce_32_mb_and_send_nothing_hold_nothing(connect):
    client = connect(body_timeout_s=2, max_bytes_in_flight=MB)
    with ExitStack() as stack:
        idle = [stack.enter_context(opened(client, 32 * MB)) for _ in range(64)]
        for _ in range(5):
            assert client.post("/predict", content=RED).status_code == 200
        assert in_flight(client) == 0
        assert {status(connection) for connection in idle} == {408}


def test_64_clients_that_never_read_their_answer_hold_neither_seats_nor_bytes(connect):
    client = connect(max_queued_images=64)
    images = [base64.b64encode(RED).decode()] * 32
    body = json.dumps({"images": images}).encode()
    with ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(opened(client, len(body), body, "Content-Type: application/json"))
        wait_until(lambda: metric(client, "pending_images") == in_flight(client) == 0)
        for _ in range(5):
            assert client.post("/predict", content=RED).status_code == 200


def test_half_sent_bodies_are_bounded_and_others_get_in_again(connect):
    client = connect(max_bytes_in_flight=MB, body_timeout_s=100)
    with ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(opened(client, 2 * len(JUNK), JUNK))
        wait_until(lambda: in_flight(client) >= MB)
        refused = client.post("/predict", content=RED)
        assert refused.status_code == 429
        assert "bodies are in flight" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) >= 1
        assert in_flight(client) < MB + 2**18
        wait_until(lambda: client.post("/predict", content=RED).status_code == 200, every_s=0.2)


def test_bodies_that_came_slowly_are_ended_when_others_need_their_room(connect):
    client = connect(max_bytes_in_flight=MB, body_timeout_s=100)
    with ExitStack() as stack:
        slow = [stack.enter_context(opened(client, 2 * len(JUNK), JUNK)) for _ in range(3)]
        wait_until(lambda: in_flight(client) == 3 * len(JUNK))
        time.sleep(WINDOW_S)
        quick = stack.enter_context(opened(client, 4 * len(JUNK), JUNK))
        ended, *_ = select.select(slow, [], [], 10)
        assert {status(connection) for connection in ended} == {408}
        quick.sendall(JUNK * 3)
        assert status(quick) == 422, "it is whole, and no picture"


def test_a_pause_alone_ends_no_body(connect):
    client = connect(max_bytes_in_flight=MB)
    with opened(client, len(RED), RED[:-1]) as phone:
        time.sleep(7)
        phone.sendall(RED[-1:])
        assert status(phone) == 200


def test_the_deadline_runs_from_the_last_byte(connect):
    client = connect(request_timeout_s=1)
    with opened(client, len(RED), RED[:-1]) as phone:
        time.sleep(1.5)
        phone.sendall(RED[-1:])
        assert status(phone) == 200


def test_a_body_that_waits_for_room_goes_on_when_there_is_some(connect):
    client = connect(max_bytes_in_flight=MB)
    with opened(client, 8 * MB, bytes(MB - 1000)) as holder, ThreadPoolExecutor(1) as pool:
        wait_until(lambda: in_flight(client) == MB - 1000)
        with opened(client, len(RED), RED[:-1]) as waiting:
            wait_until(lambda: in_flight(client) == MB - 1000 + len(RED) - 1)
            holder.sendall(bytes(2000))
            wait_until(lambda: in_flight(client) >= MB)
            waiting.sendall(RED[-1:])
            answer = pool.submit(status, waiting)
            holder.close()
            assert answer.result(20) == 200


class Ledger(Permit):
    """Remembers what is charged and what is kept."""

    def __init__(self):
        super().__init__(Capacity(), 10)
        self.entries = []

    async def charge(self, size):
        self.entries.append(size)
        return await super().charge(size)

    def keep(self, size):
        self.entries.append(-size)
        super().keep(size)


def request(chunks, **headers):
    """A request whose body comes in these chunks."""
    coming = iter(chunks)

    async def receive():
        chunk = next(coming)
        return {"type": "http.request", "body": chunk, "more_body": chunk is not chunks[-1]}

    named = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": named}, receive)


LIMITS = Limits(32 * MB, 20, 10, 32)


def test_each_chunk_is_charged_as_it_comes_and_what_it_is_inflated_to():
    plain = picture("red", (500, 500), "BMP")
    body = gzip.compress(plain)
    ledger, chunks = Ledger(), [body[:100], body[100:]]
    read = asyncio.run(read_body(request(chunks, **{"content-encoding": "gzip"}), ledger, LIMITS))
    assert read == plain
    assert ledger.entries == [100, len(body) - 100, 4 * MB, -len(plain)]


def test_an_announced_length_is_not_charged():
    ledger = Ledger()
    asyncio.run(read_body(request([b"abc"], **{"content-length": "30000000"}), ledger, LIMITS))
    assert ledger.entries == [3]


@pytest.mark.parametrize("kind", ["gzip", "base64", "multipart", "v1"])
def test_bytes_come_back_when_pixels_exist_whatever_they_came_in(connect, kind):
    network = HeldBackbone()
    client = connect(fake_heads(head("gap", on=backbone(network))))
    file = picture("red", (500, 500), "BMP")
    text = base64.b64encode(file).decode()
    path, call = {
        "gzip": ("", {"content": gzip.compress(file), "headers": {"Content-Encoding": "gzip"}}),
        "base64": ("", {"json": {"images": [text]}}),
        "multipart": ("", {"files": {"file": file}}),
        "v1": ("/v1/models/gap:predict", {"json": {"instances": [{"b64": text}]}}),
    }[kind]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(lambda: client.post(path or "/predict", **call))
        assert network.entered.wait(20)
        wait_until(lambda: in_flight(client) == 0)
        network.release.set()
        assert answer.result(20).status_code == 200


@pytest.mark.parametrize("path", ["/predict", "/v2/models/gap/infer", "/v1/models/gap:predict"])
def test_bad_bodies_leave_no_bytes_behind(connect, path):
    client = connect()
    for body in (b"no picture", b"{", b'{"instances": [1]}', b""):
        headers = {"Content-Type": "application/json"}
        assert 400 <= client.post(path, content=body, headers=headers).status_code < 500
    wait_until(lambda: in_flight(client) == 0)


def test_the_gate_heeds_the_time_that_a_request_asks_for(connect):
    network = HeldBackbone()
    client = connect(fake_heads(head("gap", on=backbone(network))), max_wait_s=100)
    with ThreadPoolExecutor(10) as pool:
        patient = [pool.submit(client.post, "/predict", content=RED) for _ in range(10)]
        wait_until(lambda: metric(client, "pending_images") == 10)
        with opened(client, 9999, header="X-Request-Timeout-Ms: 100") as impatient:
            told = impatient.recv(2**16).decode()
        network.release.set()
        assert {answer.result(20).status_code for answer in patient} == {200}
    assert told.startswith("HTTP/1.1 429 ")
    assert "longer than the deadline" in told


@pytest.mark.parametrize("told", [10**6, 2**64 - 1, 10**30])
def test_a_size_of_json_that_lies_takes_no_room(connect, told):
    network = HeldBackbone()
    client = connect(fake_heads(head("gap", on=backbone(network))), max_bytes_in_flight=MB)
    headers = {"Inference-Header-Content-Length": str(told)}
    with ThreadPoolExecutor(1) as pool, opened(client, 100, b"x"):
        answer = pool.submit(client.post, "/v2/models/gap/infer", content=b"{}", headers=headers)
        assert client.post("/predict", content=b"no picture").status_code == 422
        assert answer.result(20).status_code == 400
    network.release.set()
    wait_until(lambda: in_flight(client) == 0)
