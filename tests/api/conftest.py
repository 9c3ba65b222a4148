"""Clients of a real server on fake heads; every answer they get must be a documented one."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from fakes import explainable, fake_heads
from live import running
from waiting import wait_until

from service.app import create_app
from service.settings import Settings

Connect = Callable[..., httpx.Client]


@pytest.fixture(scope="session")
def documented() -> dict[str, dict]:
    """The operations of openapi.yaml by path, from the code; every application has the same."""
    paths: dict[str, dict] = create_app(Settings(), heads_=fake_heads()).openapi()["paths"]
    return paths


@pytest.fixture
def connect(documented: dict[str, dict]) -> Iterator[Connect]:
    """Starts a server with these settings on these heads, and returns a client once they are loaded.

    `measuring` is the command of its benchmark's children.
    """
    with ExitStack() as stack:

        def start(heads=None, wait=True, measuring=None, **settings) -> httpx.Client:
            heads = heads or fake_heads()
            app = create_app(Settings(**settings), heads_=heads)
            app.state.context.bench.command = measuring or app.state.context.bench.command
            url = stack.enter_context(running(app))
            client = stack.enter_context(httpx.Client(base_url=url, timeout=20))
            client.event_hooks["response"].append(
                lambda response: check_documented(documented, response)
            )
            if wait:
                wait_until(lambda: not heads.is_loading)
            return client

        yield start


@pytest.fixture
def client(connect: Connect) -> httpx.Client:
    """A client of `gap` and `flatten` on one backbone."""
    return connect()


@pytest.fixture
def linear(connect: Connect) -> httpx.Client:
    """A client of `gap`, which can be explained, and `flatten`, which cannot.

    The probabilities, logits and evidence of `gap` are no round numbers.
    """
    return connect(fake_heads(*explainable()))


def is_of(template: str, path: str) -> bool:
    """Whether a path is one of those that a route's path with `{names}` stands for."""
    return re.fullmatch(re.sub(r"\{\w+\}", "[^/:]+", template), path) is not None


def check_documented(paths: dict[str, dict], response: httpx.Response) -> None:
    """Fails unless openapi.yaml says that this route may answer this status with this media type."""
    method, path = response.request.method.lower(), response.request.url.path
    item = next((paths[template] for template in paths if is_of(template, path)), {})
    operation = item.get(method)
    if operation is None:
        assert response.status_code in (200, 304, 404, 405), f"{path} answered {response.status_code}"
        return
    documented = operation["responses"].get(str(response.status_code))
    assert documented, f"{path} answered {response.status_code}"
    assert response.headers["content-type"].partition(";")[0] in documented["content"]
