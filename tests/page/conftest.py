"""A browser on the page of a real server, that notes what a person should never see."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import httpx
import made_up
import pytest
from experiment_records import experiment, measured, report, training
from fakes import fake_heads, publish
from live import running
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright
from stored import empty
from waiting import PATIENCE_S, wait_until

from service.app import create_app
from service.benchmark.bench import Bench
from service.serving.heads import Heads
from service.settings import Settings
from service.store.publish import publish_report

NO_SKIP = "RESNET_HEADS_NO_SKIP"
PATIENCE_MS = 1000 * PATIENCE_S
VIOLATIONS = """
    window.violations = [];
    const note = (event) => window.violations.push(event.violatedDirective);
    addEventListener("securitypolicyviolation", note);
"""

# an answer of 4xx or 5xx, or none, is on Chromium's console whatever the page makes of it
ANSWERED = "Failed to load resource:"


@dataclass
class Visit:
    """An open page. `faults` are errors of its scripts and on its console; `requests` all URLs."""

    page: Page
    faults: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def look(self, example="red-top-left.jpg") -> None:
        """Clicks an example and waits for the maps of it."""
        self.page.locator(f"[data-example='{example}']").click()
        expect(self.page.locator(".sum:visible").first).to_be_visible()

    def panel(self, head: str) -> Locator:
        """What the page shows of a head: its classes and its map."""
        return self.page.locator("#heads").get_by_role("article", name=head, exact=True)

    @property
    def violations(self) -> list[str]:
        return self.page.evaluate("window.violations")


@pytest.fixture(scope="module")  # not wider: while it runs, no other test of the process can use asyncio
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    program = shutil.which("chromium")
    if program is None:
        assert not os.environ.get(NO_SKIP), "chromium is not installed, and nothing may be skipped here"
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts a server with these settings on these heads, and returns its URL once they are loaded."""
    with ExitStack() as stack:

        def start(heads: Heads | None = None, wait=True, **settings) -> str:
            heads = heads or fake_heads()
            url = stack.enter_context(running(create_app(Settings(**settings), heads_=heads)))
            if wait:
                wait_until(lambda: not heads.is_loading)
            return url

        yield start


@pytest.fixture
def visit(browser: Browser, serve: object) -> Iterator[Callable[..., Visit]]:  # noqa: ARG001 (for its order)
    """Opens a URL as a person would, and waits `until` it is loaded.

    `options` are of Playwright's browser contexts.

    It asks for `serve` so that pages are closed before their servers are stopped.

    Each visit must end without a fault, a violated policy, or a request to another host.
    """
    visits = []
    with ExitStack() as stack:

        def open_page(url: str, prepare=lambda _: None, until="load", **options) -> Visit:
            page = stack.enter_context(browser.new_page(**options))
            page.set_default_timeout(PATIENCE_MS)
            one = Visit(page)
            page.on("pageerror", lambda error: one.faults.append(str(error)))
            page.on("console", lambda message: _note(one, message))
            page.on("request", lambda request: one.requests.append(request.url))
            page.add_init_script(VIOLATIONS)
            prepare(page)
            page.goto(url, wait_until=until)
            visits.append((one, urlsplit(url).netloc))
            return one

        expect.set_options(timeout=PATIENCE_MS)
        yield open_page
        for one, host in visits:
            assert one.faults == []
            assert one.violations == []
            assert {urlsplit(u).netloc for u in one.requests if u.startswith("http")} <= {host}


def _note(visit: Visit, message) -> None:
    if message.type == "error" and not message.text.startswith(ANSWERED):
        visit.faults.append(message.text)


@pytest.fixture
def imagined() -> Callable[[Page], None]:
    """Prepares a page so that maps and moves are answered with made-up ones."""

    def prepare(page: Page) -> None:
        page.route(re.compile(r"/explain\?"), _explain)
        page.route(re.compile(r"/shift(\?|$)"), _shift)

    return prepare


def _labels(route: Route) -> dict[str, list[str]]:
    key = {name: text for name, text in route.request.headers.items() if name == "x-api-key"}
    answer = httpx.get(re.sub(r"/(explain|shift)(\?.*)?$", "/heads", route.request.url), headers=key)
    return {one["head"]: one["serving"]["labels"] for one in answer.json()["heads"]}


def _explain(route: Route) -> None:
    asked = parse_qs(urlsplit(route.request.url).query)
    head = asked["head"][0]
    route.fulfill(json=made_up.explained(head, _labels(route)[head], asked.get("class", [None])[0]))


def _shift(route: Route) -> None:
    labels = _labels(route)
    asked = parse_qs(urlsplit(route.request.url).query).get("offset", [])
    offsets = [[int(part) for part in offset.split(",")] for offset in asked] or made_up.OFFSETS
    route.fulfill(json=made_up.shifted(list(labels), next(iter(labels.values())), offsets))


@pytest.fixture
def bench_of_two(tmp_path) -> Bench:
    """Of a store whose `flatten` and `gap` were trained on the same pictures, and measured."""
    bench = Bench(empty(tmp_path), threads=2)
    for head in ("flatten", "gap"):
        publish(bench.store, head, training=training(experiment()))
    last = report(measured("flatten", 40, 400), measured("gap", 30, 300))
    publish_report(bench.store, last.machine.host, last.model_dump_json())
    return bench
