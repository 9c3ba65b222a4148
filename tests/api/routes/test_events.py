"""The stream of events over a real connection, from work that does as it is told."""

import json
import time

import httpx
import pytest
from fastapi import FastAPI, Request
from live import running
from pydantic import BaseModel

from service.api import problems
from service.api.routes import events
from service.errors import BenchmarkFailed, BenchmarkRunning

QUIET_S = 0.05


class Number(BaseModel):
    number: int


def answer(work, status=200) -> list[str]:
    """The blocks of the answer to a request for `work`."""
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    async def route(request: Request):
        await request.body()
        return await events.stream(request, work, "sum", QUIET_S)

    with running(app) as url:
        response = httpx.get(url, timeout=20)
    assert response.status_code == status
    return response.text.removesuffix("\n\n").split("\n\n")


def event(name: str, number: int) -> str:
    return f'event: {name}\ndata: {{"number":{number}}}'


def test_each_thing_told_is_an_event_in_order_and_so_is_what_is_returned():
    def count(tell):
        for number in range(100):
            tell(Number(number=number))
        return Number(number=4950)

    assert answer(count) == [event("progress", n) for n in range(100)] + [event("sum", 4950)]


def test_while_nothing_is_told_comments_keep_the_connection():
    def sleep(tell):
        tell(Number(number=1))
        time.sleep(4 * QUIET_S)
        return Number(number=2)

    first, *comments, last = answer(sleep)
    assert (first, last) == (event("progress", 1), event("sum", 2))
    assert set(comments) == {": ping"}


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
