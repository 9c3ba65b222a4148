"""What an operator reads: lines of a real server, each about its request."""

import io
import json
import logging
from contextlib import contextmanager
from datetime import datetime

import httpx
import pytest
from fakes import BrokenHead, fake_heads, head, picture
from live import running
from waiting import wait_until

from service import logs
from service.app import create_app
from service.settings import Settings


@contextmanager
def logging_to(stream, is_json):
    handler, logger = logs.handler(is_json, stream), logging.getLogger("service")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


@pytest.fixture
def told():
    """Makes one request with the id `mine`, once heads are loaded, and returns what was logged."""

    def ask(method="GET", path="/healthz", is_json=True, content=None):
        heads = fake_heads(head("gap"), head("broken", BrokenHead()))
        app = create_app(Settings(), heads_=heads)
        app.add_api_route("/fault", fault)
        stream = io.StringIO()
        with running(app) as url:
            wait_until(heads.has_loaded)
            with logging_to(stream, is_json):
                httpx.request(method, url + path, headers={"X-Request-ID": "mine"}, content=content)
                wait_until(lambda: f"{method} " in stream.getvalue())
        return stream.getvalue().splitlines()

    return ask


async def fault():
    raise RuntimeError("a fault of ours")


def test_a_request_is_one_object(told):
    line = json.loads(told("POST", "/predict", content=picture())[-1])
    assert line.pop("ms") > 0
    assert datetime.fromisoformat(line.pop("time")).utcoffset().total_seconds() == 0
    assert line.pop("message").startswith("POST /predict 200 ")
    assert line == {
        "level": "info",
        "logger": "service.requests",
        "request_id": "mine",
        "method": "POST",
        "route": "/predict",
        "status": 200,
    }


def test_a_refusal_names_its_problem(told):
    line = json.loads(told("POST", "/predict", content=b"text")[-1])
    assert (line["status"], line["problem"]) == (422, "not-an-image")


def test_a_path_that_is_unknown_has_no_route(told):
    assert json.loads(told(path="/heads/gap/more")[-1])["route"] == "unmatched"


@pytest.mark.parametrize(
    ("method", "path", "cause"),
    [("GET", "/fault", "a fault of ours"), ("POST", "/predict?head=broken", "broken on purpose")],
)
def test_an_error_is_one_object_with_its_traceback_and_its_request(told, method, path, cause):
    """The second comes from the engine's thread, where no request is."""
    lines = [json.loads(line) for line in told(method, path, content=picture())]
    (error,) = (line for line in lines if line["level"] == "error")
    assert error["request_id"] == "mine"
    assert error["traceback"].startswith("Traceback")
    assert cause in error["traceback"]


@pytest.mark.parametrize("is_json", [True, False])
def test_what_is_logged_outside_of_requests_has_no_id(is_json):
    stream = io.StringIO()
    with logging_to(stream, is_json):
        logging.getLogger("service.serving").warning("head %s", "gap")
    line = stream.getvalue()
    assert "request_id" not in json.loads(line) if is_json else " [-]: head gap" in line


@pytest.mark.parametrize("is_json", [True, False])
def test_a_path_with_a_line_break_forges_no_line(told, is_json):
    lines = told(path="/a%0aforged", is_json=is_json)
    assert len(lines) == 1
    assert "/a%0Aforged" in lines[0]


def test_the_console_shows_the_id(told):
    (line,) = told(is_json=False)
    assert "INFO service.requests [mine]: GET /healthz 200" in line
