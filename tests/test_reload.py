"""New versions under load: a real server on a store that changes."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from process import serving
from waiting import wait_until

from service.store.layout import MODEL
from service.store.publish import publish_version, staged

CLIENTS = 4


@pytest.fixture
def store(small_store, copied):
    """A copy of the small store, to be changed."""
    return copied(small_store)


def publish(store, **changes):
    """The newest version of `gap` again with other labels, so that its answers can be told apart."""
    before = store.card("gap", store.versions("gap")[0])
    labels = tuple(f"{label}'" for label in before.labels)
    with staged(store.root) as folder:
        shutil.copy(store.folder("gap", before.version) / MODEL, folder / MODEL)
        return publish_version(store, folder, before.model_copy(update={"labels": labels} | changes))


class Clients:
    """Ask `gap` about two pictures at a time until they are stopped; `answers` are (version, labels)."""

    def __init__(self, url, images):
        self._url, self._files = url, [("file", image) for image in images]
        self._is_over = threading.Event()
        self.answers, self.refused = [], []

    def __enter__(self):
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._done = [self._pool.submit(self._run) for _ in range(CLIENTS)]
        return self

    def __exit__(self, *_):
        self._is_over.set()
        for one in self._done:
            one.result(30)
        self._pool.shutdown()

    def _run(self):
        with httpx.Client(timeout=20) as client:
            while not self._is_over.is_set():
                answer = client.post(f"{self._url}/predict?head=gap&top_k=1", files=self._files)
                if answer.status_code != 200:
                    self.refused.append(answer.text)
                    continue
                body = answer.json()
                labels = [result["predictions"][0]["label"] for result in body["results"]]
                self.answers.append((body["version"], labels))

    def meet(self, version):
        """Waits until an answer is of that version, and a few more have come."""
        wait_until(lambda: any(one == version for one, _ in self.answers))
        seen = len(self.answers)
        wait_until(lambda: len(self.answers) > seen + 2 * CLIENTS)


def check(clients, card_of):
    """No request failed, and every label of an answer is of the version that it names."""
    assert clients.refused == []
    for version, labels in clients.answers:
        assert set(labels) <= set(card_of[version].labels), "an answer of two versions"


def test_versions_are_swapped_under_load_and_rolled_back_by_deletion(store):
    image = store.card("gap", 1).golden.image
    cards = {1: store.card("gap", 1)}
    quick = ("--reload-poll-s", "0.2", "--engine", "openvino")
    with serving(store, *quick) as server, Clients(server.url, [image, image]) as clients:
        clients.meet(1)
        cards[2] = publish(store)
        clients.meet(2)
        bad = cards[2].golden.model_copy(update={"probabilities": cards[2].golden.probabilities[::-1]})
        cards[3] = publish(store, golden=bad)
        gap = f"{server.url}/heads/gap"
        wait_until(lambda: [one["version"] for one in httpx.get(gap).json()["failed"]] == [3])
        told = httpx.get(gap).json()
        assert (told["serving"]["version"], told["loaded"], told["versions"]) == (2, [2, 1], [3, 2, 1])
        older = httpx.post(f"{server.url}/predict?head=gap&version=1&top_k=1", content=image).json()
        assert older["version"] == 1
        assert older["results"][0]["predictions"][0]["label"] in cards[1].labels
        refused = httpx.post(f"{server.url}/predict?head=gap&version=3", content=image)
        assert (refused.status_code, refused.json()["title"]) == (404, "Unknown version")
        for version in (3, 2):
            shutil.rmtree(store.folder("gap", version))
        before = len(clients.answers)
        wait_until(lambda: 1 in {version for version, _ in clients.answers[before:]})
    check(clients, cards)
    assert {version for version, _ in clients.answers} == {1, 2}


def test_a_pinned_version_serves_until_it_is_not_pinned_any_more(store):
    publish(store)
    image = store.card("gap", 1).golden.image
    for pinned, expected in (("gap=1", 1), ("", 2)):
        with serving(store, "--pinned", pinned, "--engine", "openvino") as server:
            assert (
                httpx.post(f"{server.url}/predict?head=gap", content=image).json()["version"] == expected
            )
