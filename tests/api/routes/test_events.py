"""The stream of events over a real connection, from work that does as it is told."""

import json
import threading

import httpx
import pytest
from fastapi import FastAPI, Request
from live import running
from pydantic import BaseModel
from waiting import PATIENCE_S

from service.api import problems
from service.api.routes import events
from service.errors import BenchmarkFailed, BenchmarkRunning

QUIET_S = 0.05
PING = ": ping"


class Number(BaseModel):
    number: int


def answer(work, status=200, on_ping=lambda: None) -> list[str]:
    """The blocks of the answer to a request for `work`; `on_ping` is called at each comment."""
    app = FastAPI()
    problems.answer_errors(app)

    @app.get("/")
    async def route(request: Request):
        await request.body()
        return await events.stream(request, work, "sum", QUIET_S)

    lines = []
    with running(app) as url, httpx.stream("GET", url, timeout=PATIENCE_S) as response:
        assert response.status_code == status
        for line in response.iter_lines():
            lines.append(line)
            if line == PING:
                on_ping()
    return "\n".join(lines).removesuffix("\n").split("\n\n")


def event(name: str, number: int) -> str:
    return f'event: {name}\ndata: {{"number":{number}}}'


def test_each_thing_told_is_an_event_in_order_and_so_is_what_is_returned():
    def count(tell):
        for number in range(100):
            tell(Number(number=number))
        return Number(number=4950)

    assert answer(count) == [event("progress", n) for n in range(100)] + [event("sum", 4950)]


def test_while_nothing_is_told_comments_keep_the_connection():
    heard = threading.Event()

    def say_nothing_until_a_comment_was_heard(tell):
        tell(Number(number=1))
        assert heard.wait(PATIENCE_S)
        return Number(number=2)

    first, *comments, last = answer(say_nothing_until_a_comment_was_heard, on_ping=heard.set)
    assert (first, last) == (event("progress", 1), event("sum", 2))
    assert set(comments) == {PING}


@pytest.mark.parametrize(
    ("exc", "kind"),
    [(BenchmarkFailed("It was late."), "benchmark-failed"), (RuntimeError("secret"), "internal")],
)
def test_a_failure_is_an_event_once_something_was_told(exc, kind):
    def fail(tell):
        tell(Number(number=1))
        raise exc

    _, last = answer(fail)
    name, data = last.split("\n")
    assert name == "event: problem"
    assert json.loads(data.removeprefix("data: "))["type"] == f"urn:resnet-heads:problem:{kind}"
    assert "secret" not in data


def test_a_failure_before_that_is_answered_as_without_events():
    def refuse(_):
        raise BenchmarkRunning

    (body,) = answer(refuse, status=409)
    assert json.loads(body)["type"].endswith("benchmark-running")


def test_work_that_tells_nothing_is_its_result_alone():
    assert answer(lambda _: Number(number=7)) == [event("sum", 7)]
