"""What takes long runs beside the event loop: meanwhile it answers the others.

A request's CPU time is told apart by thread, so that neither a busy machine nor a slow one matters.
"""

import base64
import queue
import time
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from fakes import PATIENCE_S, FakeHead, backbone, fake_heads, head, picture
from live import running
from waiting import wait_until

from service.app import create_app
from service.serving.explain.layers import Dense, Reshaped
from service.settings import Settings
from service.store.card import Golden

MOST = 0.5  # of the CPU time of a request: the event loop reads and sends it in any case
CLASSES = 1000
IMAGES = 32
RED = picture("red")
FILES = [("file", RED)] * IMAGES
TEXTS = [base64.b64encode(RED).decode()] * IMAGES
V1 = {"instances": [{"b64": text} for text in TEXTS]}
V2 = {"inputs": [{"name": "image_bytes", "shape": [IMAGES], "datatype": "BYTES", "data": TEXTS}]}


class WideHead(FakeHead):
    """(n, 1, 1, 3) -> as many classes as ImageNet has, each with a share of its own."""

    layers = (Reshaped((3,)), Dense(np.zeros((CLASSES, 3), np.float32), np.zeros(CLASSES, np.float32)))

    def compute(self, batch):
        shares = np.arange(1, CLASSES + 1, dtype=np.float32)
        return np.tile(shares / shares.sum(), (len(batch), 1))

    def logits(self):
        return np.zeros_like(self._answer)


def wide(name, on):
    golden = Golden.model_construct(image=RED, probabilities=(1 / CLASSES,) * CLASSES)
    return head(
        name, WideHead(), on, labels=[f"class {index}" for index in range(CLASSES)], golden=golden
    )


class Watched:
    """An application as its server sees it; tells what its event loop spends on requests."""

    def __init__(self, app):
        self.app, self._spent = app, queue.Queue()

    async def __call__(self, scope, receive, send):
        began, all_began = time.thread_time(), time.process_time()
        await self.app(scope, receive, send)
        if scope["type"] == "http":
            self._spent.put((time.thread_time() - began, time.process_time() - all_began))

    def ask(self, method, *args, **kwargs):
        """The answer to a request, the CPU seconds that the event loop spent on it, and their share."""
        answer = method(*args, **kwargs)
        spent_s, whole_s = self._spent.get(timeout=PATIENCE_S)
        return answer, spent_s, spent_s / whole_s


@contextmanager
def watching(heads):
    watched = Watched(create_app(Settings(), heads_=heads))
    with running(watched) as url, httpx.Client(base_url=url, timeout=20) as client:
        wait_until(lambda: not heads.is_loading)
        yield watched, client


@pytest.fixture(scope="module")
def served():
    """An application of two heads with many classes on one backbone, and its client."""
    shared = backbone()
    with watching(fake_heads(wide("gap", shared), wide("flatten", shared))) as pair:
        yield pair


@pytest.mark.parametrize(
    ("path", "request_", "status"),
    [
        ("/predict?top_k=1000", {"files": FILES}, 200),
        ("/compare?top_k=1000", {"files": FILES}, 200),
        ("/v1/models/gap:predict", {"json": V1}, 200),
        ("/v2/models/gap/infer", {"json": V2}, 200),
        ("/explain?format=png", {"content": RED}, 200),
        ("/predict", {"files": [("file", b"")] * 990}, 413),
    ],
    ids=["predict", "compare", "v1", "v2", "png", "multipart"],
)
def test_a_large_request_or_answer_costs_the_event_loop_little_of_it(served, path, request_, status):
    watched, client = served
    shares = []
    for _ in range(3):  # a collection of garbage may fall into one
        answer, _, share = watched.ask(client.post, path, **request_)
        assert answer.status_code == status, answer.text
        shares.append(share)
    assert min(shares) < MOST, shares


def test_the_first_request_finds_its_route_ready():
    """FastAPI puts the routes of a router together when one is first asked for."""
    with watching(fake_heads()) as (watched, client):
        costs = [watched.ask(client.get, "/v2")[1] for _ in range(3)]
    assert costs[0] < 10 * min(costs), costs


def test_a_wrong_method_is_refused_without_a_description_of_the_service():
    with watching(fake_heads()) as (watched, client):
        assert client.delete("/benchmark").headers["allow"] == "GET, POST"
        assert watched.app.openapi_schema is None


def test_the_service_is_described_in_a_thread():
    with watching(fake_heads()) as (watched, client):
        answer, _, share = watched.ask(client.get, "/openapi.json")
        assert answer.json() == watched.app.openapi()
    assert share < MOST


def test_metrics_are_written_in_a_thread():
    with watching(fake_heads()) as (watched, client):
        for number in range(500):
            watched.app.state.context.metrics.observe_request(f"/{number}", 200, 0.1, None)
        answer, _, share = watched.ask(client.get, "/metrics")
    assert "/499" in answer.text
    assert share < MOST
