import threading
import time
from itertools import pairwise
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import numpy as np
import pytest
from live import running
from load.run import latencies_s, load, loaded
from scripted import PREDICTED, Script, broken_off, drip, ok, problem
from waiting import wait_until

BODY = Path(__file__)


def most_at_once(sent):
    return max(sum(one.due <= other.due < one.finished for one in sent) for other in sent)


def test_each_client_of_a_closed_loop_sends_when_it_has_its_answer():
    upstream = Script(ok(**{"Server-Timing": "decode;dur=1.5, total;dur=20.25"}))
    options = {"headers": {"X-API-Key": "mine"}, "name": "few", "clients": 3, "seconds": 0.5}
    with running(upstream) as url:
        found = loaded([f"{url}/a?x=1", f"{url}/b"], BODY, **options)
    asked = upstream.requests
    assert found.statuses() == {200: len(asked)}
    assert most_at_once(found.sent) <= 3
    assert {(one.url.path, one.headers["X-API-Key"]) for one in asked} == {
        ("/a", "mine"),
        ("/b", "mine"),
    }
    assert set(upstream.bodies) == {BODY.read_bytes()}
    ids = {one.id for one in found.sent}
    assert (
        ids == {one.headers["X-Request-ID"] for one in asked} == {f"few-{n}" for n in range(len(asked))}
    )
    assert {one.answer for one in found.sent} == {PREDICTED.decode()}
    assert all(one.stages_ms == {"decode": 1.5, "total": 20.25} for one in found.sent)


def test_a_client_pauses_after_an_answer_and_rests_after_a_failure():
    upstream = Script(broken_off(), ok())
    with running(upstream) as url, load([url], BODY, pause=0.1, rest=0.6) as found:
        wait_until(lambda: len(upstream.requests) == 4)
    assert [(one.status, one.error) for one in found.failed()] == [(0, "EOFError('the server hung up')")]
    rest, *pauses = (after.due - before.finished for before, after in pairwise(found.sent))
    assert rest >= 0.5 > min(pauses) >= 0.08


def test_an_open_loop_sends_at_random_times_whatever_became_of_the_others():
    with running(Script(drip([b"{", b"}"], 0.25))) as url:
        found = loaded([url], BODY, rate=100, seconds=1)
    assert found.statuses().keys() == {200}
    due = np.sort([one.due for one in found.sent])
    assert 50 < len(due) < 150
    assert 0.7 < np.ptp(due) < 1
    assert 0.5 < np.std(np.diff(due)) / np.mean(np.diff(due)) < 1.7, "those of a Poisson process: 1"
    assert latencies_s(found.sent).min() > 0.49
    assert most_at_once(found.sent) > 20


def test_who_is_refused_comes_back_as_told_if_that_is_soon_enough():
    once, never = (problem(429, "too-busy", retry_after=seconds) for seconds in ("1", "30"))
    upstream = Script(once, never, once, never, ok())
    with running(upstream) as url:
        found = loaded([url], BODY, rate=50, seconds=0.8, obey=10)
    assert found.statuses() == {200: len(upstream.requests) - 4, 429: 4}
    again = {one.id: one.due for one in found.sent if one.attempt == 2}
    assert again == {one.id: one.finished + 1 for one in found.of(429) if one.retry_after == 1}
    assert {one.headers["X-Request-ID"] for one in upstream.requests} == {one.id for one in found.sent}
    assert (found.longest_retry_s(), found.served()) == (30, 0.5)


class Hasty(StreamRequestHandler):
    """Answers before it has read the body, headers first, and hangs up without a word."""

    def handle(self):
        list(iter(self.rfile.readline, b"\r\n"))
        lengths = b"Inference-Header-Content-Length: 1\r\nContent-Length: 5\r\n"
        self.wfile.write(b"HTTP/1.1 429 No\r\nRetry-After: 7\r\n" + lengths + b"\r\n")
        time.sleep(0.1)
        self.wfile.write(b"later")


@pytest.mark.parametrize("size", [1, 10_000_000])
def test_a_server_may_hang_up_after_its_answer_and_before_the_body_was_sent(tmp_path, size):
    (tmp_path / "body").write_bytes(bytes(size))
    with ThreadingTCPServer(("127.0.0.1", 0), Hasty) as server:
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        found = loaded([url], tmp_path / "body", rest=0.5, seconds=1.2)
        server.shutdown()
    assert {(one.status, one.retry_after, one.answer) for one in found.sent} == {(429, 7, "later")}
    assert len(found.sent) > 1
