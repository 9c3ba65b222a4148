"""The page of `serve --root-path`, behind a proxy that strips that prefix."""

import httpx
import pytest
from live import running
from playwright.sync_api import expect
from process import serving

pytestmark = pytest.mark.slow

PREFIX = "/team/heads"


class Proxy:
    """An ASGI application that passes what is under PREFIX on to `target`; `strays` are other paths."""

    def __init__(self, target):
        self._target = target
        self.strays = []

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        if not scope["path"].startswith(f"{PREFIX}/"):
            self.strays.append(scope["path"])
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        url = self._target + scope["path"].removeprefix(PREFIX) + "?" + scope["query_string"].decode()
        headers = [pair for pair in scope["headers"] if pair[0] not in (b"host", b"content-length")]
        async with httpx.AsyncClient(timeout=20) as client:
            answer = await client.request(scope["method"], url, content=body, headers=headers)
        kept = [(name.lower(), text) for name, text in answer.headers.raw]
        kept = [one for one in kept if one[0] not in (b"content-length", b"content-encoding")]
        await send({"type": "http.response.start", "status": answer.status_code, "headers": kept})
        await send({"type": "http.response.body", "body": answer.content})


def test_it_works_under_a_prefix(visit, small_store, imagined):
    with serving(small_store, "--root-path", PREFIX) as server:
        proxy = Proxy(server.url.removesuffix(PREFIX))
        with running(proxy) as url:
            seen = visit(f"{url}{PREFIX}/", imagined)
            seen.look()
            expect(seen.page.locator("#answers tbody tr")).to_have_count(2)
            seen.page.goto("about:blank")
        assert proxy.strays == [], "a URL was not relative"
