import json
import os
import socket

import children
import httpx
import pytest
from fakes import EchoHead, backbone, fake_heads, head
from waiting import wait_until

from service.benchmark.report import Progress, Report
from service.serving.loading import LoadedHead
from service.store.card import Backbone

EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture
def serve(connect, small_store, copied):
    """Starts a server whose heads answer from numpy, and are measured as those of the small store."""

    def start(measuring=None):
        store, on = copied(small_store), backbone()
        heads = [LoadedHead(store.read_card(name, 1), on, EchoHead()) for name in ("gap", "flatten")]
        places = {"store_dir": store.root, "cache_dir": store.cache}
        return connect(fake_heads(*heads), measuring=measuring, **places)

    return start


@pytest.fixture
def real(serve):
    """A client whose benchmark runs real children."""
    return serve()


@pytest.fixture
def quick(serve):
    """A client whose benchmark runs fake children, which take their turns and no other time."""
    return serve(children.python(children.FAKE))


def test_without_a_report_it_is_404_and_says_how_to_make_one(connect, tmp_path):
    response = connect(store_dir=tmp_path).get("/benchmark")
    assert response.status_code == 404
    assert "POST /benchmark" in response.json()["error"]
    assert "resnet-heads benchmark" in response.json()["error"]


def test_a_run_is_answered_with_its_report_which_is_kept(quick):
    body = {"heads": ["gap"], "batch_sizes": [1], "seconds": 2}
    response = quick.post("/benchmark", json=body, timeout=60)
    report = Report.model_validate(response.json())
    assert [measured.head for measured in report.heads] == ["gap"]
    assert report.requests_meanwhile == 0
    assert quick.get("/benchmark").json() == response.json()


def test_a_hang_up_ends_the_run_and_until_then_there_is_one_at_a_time(real):
    me, before = os.getpid(), children.of(os.getpid())
    body = b'{"seconds": 60}'
    address = (real.base_url.host, real.base_url.port)
    connection = socket.create_connection(address, timeout=20)
    connection.sendall(
        b"POST /benchmark HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    wait_until(lambda: children.of(me) - before)
    processes = children.of(me) - before
    refused = real.post("/benchmark", json={})
    assert refused.status_code == 409
    assert "running" in refused.json()["error"]
    assert real.get("/healthz").status_code == 200
    connection.close()
    wait_until(lambda: children.are_gone(processes))
    wait_until(lambda: real.post("/benchmark", json={"seconds": 1}, timeout=60).status_code != 409)
    assert children.of(me) == before


def read_events(response: httpx.Response) -> list[tuple[str, dict]]:
    """Name and data of each event, until the stream ends; comments are left out."""
    read = []
    for block in response.read().decode().removesuffix("\n\n").split("\n\n"):
        if not block.startswith(":"):
            name, data = block.split("\n")
            read.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return read


def test_a_run_that_is_asked_for_events_tells_its_progress_and_ends_with_its_report(quick):
    body = {"batch_sizes": [2], "seconds": 3}
    with quick.stream("POST", "/benchmark", json=body, headers=EVENTS, timeout=60) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-accel-buffering"] == "no"
        *progress, (last, report) = read_events(response)
    assert last == "report"
    assert quick.get("/benchmark").json() == report
    assert {name for name, _ in progress} == {"progress"}
    told = [Progress.model_validate(data) for _, data in progress]
    assert [one.step for one in told] == list(range(1, len(told) + 1))
    assert [one.doing for one in told[:5]] == [
        "gap on openvino: memory",
        "flatten on openvino: memory",
        "gap on openvino: loading",
        "flatten on openvino: loading",
        "gap on openvino: latency, batch size 2",
    ]
    shares = [one.share for one in told]
    assert shares == sorted(shares)
    assert shares == pytest.approx([one.elapsed_s / 3 for one in told])
    assert shares[0] < shares[-1] <= 1


def test_a_hang_up_in_the_middle_of_the_events_ends_the_run(real):
    me, before = os.getpid(), children.of(os.getpid())
    with real.stream("POST", "/benchmark", json={"seconds": 60}, headers=EVENTS) as response:
        chunks = response.iter_bytes()
        assert b"event: progress" in next(chunks)
        wait_until(lambda: children.of(me) - before)
        processes = children.of(me) - before
        assert real.post("/benchmark", json={}, headers=EVENTS).status_code == 409
    wait_until(lambda: children.are_gone(processes))
    wait_until(lambda: real.post("/benchmark", json={"seconds": 1}, timeout=60).status_code != 409)


def test_what_fails_after_it_has_begun_is_an_event(serve):
    client = serve(children.python("input(); input()"))
    with client.stream("POST", "/benchmark", json={"seconds": 1}, headers=EVENTS) as response:
        assert response.status_code == 200
        (first, _), *_, (last, problem) = read_events(response)
    assert (first, last) == ("progress", "problem")
    assert problem["type"].endswith("benchmark-failed")
    assert problem["status"] == 503
    assert "more seconds" in problem["error"]


def test_what_is_known_before_it_begins_is_answered_as_ever(connect, tmp_path):
    client = connect(store_dir=tmp_path, cache_dir=tmp_path)
    for body, status in [({"seconds": 0}, 422), ({"heads": ["nope"]}, 404), ({}, 503)]:
        response = client.post("/benchmark", json=body, headers=EVENTS)
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"


def test_too_little_memory_is_409_with_the_figures(connect):
    enormous = Backbone(digest="b" * 64, parameters=10**13, feature_shape=(7, 7, 2048))
    client = connect(fake_heads(head("gap", backbone=enormous)))
    for headers in ({}, EVENTS):
        response = client.post("/benchmark", headers=headers)
        assert response.status_code == 409
        assert response.json()["type"].endswith("too-little-memory")
        assert "MB are available" in response.json()["error"]


def test_a_head_without_files_for_the_engine_is_503_and_names_the_command(connect, tmp_path):
    response = connect(store_dir=tmp_path, cache_dir=tmp_path).post("/benchmark")
    assert response.status_code == 503
    assert "resnet-heads compile" in response.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        '{"seconds": 0}',
        '{"seconds": 121}',
        '{"batch_sizes": []}',
        '{"batch_sizes": [0]}',
        '{"batch_sizes": [65]}',
        '{"engines": ["jax"]}',
        '{"heads": []}',
        '{"colour": "red"}',
        "seconds=10",
        "[]",
    ],
)
def test_a_wrong_body_is_422(client, body):
    assert client.post("/benchmark", content=body).status_code == 422


def test_an_unknown_head_is_404(client):
    assert client.post("/benchmark", json={"heads": ["nope"]}).status_code == 404


def test_a_body_over_the_limit_is_413(connect):
    assert connect(max_body_bytes=10).post("/benchmark", content=b" " * 11).status_code == 413


def post(client: httpx.Client, key: str) -> int:
    """The status of a run that could not be; 404 once the key was let in."""
    return client.post(
        "/benchmark", json={"heads": ["nope"]}, headers={"X-API-Key": key} if key else {}
    ).status_code


def test_keys_are_asked_for_as_elsewhere(connect, tmp_path):
    client = connect(api_keys="one,two", store_dir=tmp_path)
    assert [post(client, key) for key in ("", "wrong", "two")] == [401, 401, 404]
    assert client.get("/benchmark").status_code == 401
    assert client.get("/benchmark", headers={"X-API-Key": "one"}).status_code == 404


def test_an_admin_key_is_asked_for_instead_where_there_is_one(connect, tmp_path):
    client = connect(api_keys="one", admin_key="root", store_dir=tmp_path)
    assert [post(client, key) for key in ("", "one", "root")] == [401, 401, 404]
    bearer = {"Authorization": "Bearer root"}
    assert client.post("/benchmark", json={"heads": ["nope"]}, headers=bearer).status_code == 404
    assert client.get("/benchmark", headers={"X-API-Key": "one"}).status_code == 404
    alone = connect(admin_key="root", store_dir=tmp_path)
    assert post(alone, "") == 401
    assert alone.get("/benchmark").status_code == 404
