"""Servers that are slow, busy, broken, or not ours."""

import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import repeat

import pytest
from live import running
from process import reserved_port
from scripted import PREDICTED, Script, broken_off, drip, ok, problem, status
from waiting import PATIENCE_S

from service.client import (
    Client,
    NotUnderstood,
    Refused,
    TimedOut,
    Unreachable,
    WrongUrl,
)
from service.client.exchange import MIN_WAIT_S

RED = b"an image"
DATE = format_datetime(datetime.now(UTC) - timedelta(seconds=1), usegmt=True)


def asked(call, *answers, name="predict", images=(RED,), timeout_s=PATIENCE_S, **given):
    """What a call to a server with these answers gives, and the server's script."""
    script = Script(*answers)
    with running(script) as url:
        return call(url, name, *images, timeout_s=timeout_s, **given), script


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("after", ["0", DATE], ids=["seconds", "date"])
def test_a_busy_server_is_asked_again_when_it_says(call, code, after):
    answer, script = asked(call, problem(code, "too-busy", retry_after=after), ok())
    assert answer.head == "gap"
    assert len(script.requests) == 2
    assert script.bodies[0].count(RED) == script.bodies[1].count(RED) == 1
    ids = {request.headers["x-request-id"] for request in script.requests}
    assert len(ids) == 1, "every attempt is found in the log under one id"


def test_it_waits_as_long_as_it_is_told(call):
    started = time.monotonic()
    asked(call, problem(429, "too-busy", retry_after="1"), ok())
    assert time.monotonic() - started > 1


def test_it_does_not_wait_beyond_its_deadline(call):
    started = time.monotonic()
    script = Script(problem(429, "too-busy", retry_after="500"))
    with running(script) as url, pytest.raises(Refused, match="It is too-busy") as refused:
        call(url, "predict", RED, timeout_s=400)
    assert time.monotonic() - started < PATIENCE_S
    assert (refused.value.status, refused.value.retry_after_s) == (429, 500)
    assert len(script.requests) == 1


def test_a_server_that_stays_busy_is_given_up_at_the_deadline(call):
    """By the last refusal, or by the deadline where that comes in the middle of an attempt."""
    script = Script(problem(429, "too-busy", retry_after="0"))
    with running(script) as url, pytest.raises((Refused, TimedOut)):
        call(url, "predict", RED, timeout_s=2)
    assert 2 <= len(script.requests) <= 2 / MIN_WAIT_S


@pytest.mark.parametrize(
    "answer", [problem(503, "not-ready"), problem(503, "not-ready", retry_after="soon")]
)
def test_a_503_that_says_no_time_is_final(call, answer):
    script = Script(answer)
    with running(script) as url, pytest.raises(Refused) as refused:
        call(url, "predict", RED)
    assert refused.value.retry_after_s is None
    assert len(script.requests) == 1


def test_the_server_is_told_the_time_that_is_left(call):
    _, script = asked(call, problem(429, "too-busy", retry_after="1"), ok(), timeout_s=50)
    first, second = (int(one.headers["x-request-timeout-ms"]) for one in script.requests)
    assert 25_000 < first <= 50_000
    assert second < first - 900


@pytest.mark.parametrize(
    "answer",
    [drip([PREDICTED], 2 * PATIENCE_S), drip(repeat(b" "), 0.05)],
    ids=["says nothing", "never ends"],
)
def test_an_answer_that_is_late_is_not_waited_for(call, answer):
    started = time.monotonic()
    with pytest.raises(TimedOut, match=r"did not answer within 0\.5 s"):
        asked(call, answer, timeout_s=0.5)
    assert time.monotonic() - started < PATIENCE_S


def test_a_server_that_takes_no_connection_is_late_too(call):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), pytest.raises(TimedOut):
            call(f"http://127.0.0.1:{port}", "heads", timeout_s=0.3)


def test_nobody_there_is_unreachable_and_names_the_url(call):
    with reserved_port() as port, pytest.raises(Unreachable, match=f"http://127.0.0.1:{port}"):
        call(f"http://127.0.0.1:{port}", "heads")


def test_a_connection_that_breaks_off_is_unreachable(call):
    with pytest.raises(Unreachable):
        asked(call, broken_off())


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://localhost",
        "http://",
        "",
        "http://[",
        "http://host:99999",
        "http://a..b",
        "http://münchen..de",
        f"http://{'a' * 64}.com",
        "http://host\t.com",
    ],
)
def test_what_is_no_url_is_told_at_once(url):
    with pytest.raises(WrongUrl, match="is not a URL"):
        Client(url)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (status(502), r"502 Bad Gateway \(text/html\)"),
        (status(200), r"200 OK \(text/html\)"),
        (status(301, location="https://elsewhere/"), "301 Moved Permanently to https://elsewhere/"),
        (ok(b'{"colour": "red"}'), "head"),
        (ok(b"{"), "JSON"),
        (ok(b"[]", media_type="application/problem+json"), "problem"),
        (ok(b"", media_type=None), "no content type"),
    ],
)
def test_an_answer_that_is_not_ours_is_told_as_such(call, answer, told):
    with pytest.raises(NotUnderstood, match=told):
        asked(call, answer)


EXPLAINED = (
    b'{"head":"gap","version":1,"engine":"openvino","precision":"f32","results":[{"index":3,"label":"red","probability":'
    b'0.9,"logit":4.0,"constant":1.0,"grid":[[1,2],[0,0]]}],'
    b'"timing_ms":{"decode":1,"queue":1,"inference":1,"total":3}}'
)


def test_an_explanation_is_asked_for_by_head_and_class(call):
    answer, script = asked(call, ok(EXPLAINED), name="explain", head="gap", class_=3)
    assert answer.results[0].grid == [[1, 2], [0, 0]]
    assert str(script.requests[0].url.query) == "head=gap&class=3"


def test_an_explanation_can_be_a_picture(call):
    answer, script = asked(call, ok(b"\x89PNG", "image/png"), name="explain_png", class_="red")
    assert answer == b"\x89PNG"
    assert str(script.requests[0].url.query) == "class=red&format=png"


SHIFTED = (
    b'{"offsets":[[8,-4]],"heads":[{"head":"gap","version":1,"engine":"openvino","precision":"f32","index":0,"label":"red",'
    b'"probability":0.9,"stability":1.0,"drift_mean":0.1,"drift_max":0.1,"answers":[{"index":0,'
    b'"label":"red","probability":0.8,"kept":0.8}]}],'
    b'"timing_ms":{"decode":1,"queue":1,"inference":1,"total":3}}'
)


def test_a_shift_is_asked_for_by_heads_and_offsets(call):
    answer, script = asked(
        call, ok(SHIFTED), name="shift", heads=["gap", "flatten"], offsets=[(8, -4), (0, 0)]
    )
    assert answer.heads[0].answers[0].kept == 0.8
    assert answer.offsets == [(8, -4)]
    query = script.requests[0].query_params
    assert query.getlist("head") == ["gap", "flatten"]
    assert query.getlist("offset") == ["8,-4", "0,0"]


def test_a_path_prefix_stays_in_front(call):
    script = Script(ok())
    with running(script) as url:
        call(f"{url}/prefix", "predict", RED)
    assert script.requests[0].url.path == "/prefix/predict"


PROGRESS = b'{"step":%d,"doing":"gap","elapsed_s":1,"of_seconds":20,"share":0.1}'
EVENTS = b"".join(
    [
        b"event: progress\ndata: " + PROGRESS % 1 + b"\n\n",
        b": ping\n\n",
        b"event: progress\ndata: " + PROGRESS % 2 + b"\n\n",
        b'event: problem\ndata: {"type":"urn:resnet-heads:problem:benchmark-failed","title":"T",'
        b'"status":503,"detail":"It was late.","error":"It was late."}\n\n',
    ]
)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_events_are_heard_however_they_arrive_and_a_problem_among_them_is_raised(call, size):
    chunks = [EVENTS[start : start + size] for start in range(0, len(EVENTS), size)]
    told = []
    with pytest.raises(Refused, match="It was late") as refused:
        asked(
            call,
            drip(chunks, 0, "text/event-stream"),
            name="measure",
            images=(),
            on_progress=told.append,
        )
    assert [one.step for one in told] == [1, 2]
    assert (refused.value.status, refused.value.kind) == (503, "benchmark-failed")


def test_events_that_end_without_a_report_are_no_answer(call):
    with pytest.raises(NotUnderstood, match="event-stream"):
        asked(call, drip([EVENTS[:60]], 0, "text/event-stream"), name="measure", images=())
