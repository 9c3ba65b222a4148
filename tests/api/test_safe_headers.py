"""Each answer carries the headers that tell browsers to be careful, whoever made it."""

import httpx
import pytest
from fakes import BrokenHead, fake_heads, head, picture
from live import running

from service.api.routes.page import POLICY
from service.app import create_app
from service.settings import Settings

RED = picture("red")
EXPECTED = {
    "cache-control": "no-store",
    "content-security-policy": (
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; object-src 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
ANSWERS = {
    "an answer": ("POST", "/predict?head=flatten", RED, 200),
    "a list": ("GET", "/heads", None, 200),
    "health": ("GET", "/healthz", None, 200),
    "metrics": ("GET", "/metrics", None, 200),
    "the contract": ("GET", "/openapi.json", None, 200),
    "the interactive page": ("GET", "/docs", None, 200),
    "no image": ("POST", "/predict?head=flatten", b"text", 422),
    "too large": ("POST", "/predict", bytes(20_000), 413),
    "an unknown head": ("POST", "/predict?head=no", RED, 404),
    "an unknown route": ("GET", "/no", None, 404),
    "a wrong method": ("DELETE", "/predict", None, 405),
    "a failing engine": ("POST", "/predict", RED, 500),
}


@pytest.fixture
def client(connect):
    return connect(fake_heads(head("gap", BrokenHead()), head("flatten")), max_body_bytes=10_000)


@pytest.mark.parametrize(("method", "path", "body", "status"), ANSWERS.values(), ids=ANSWERS)
def test_every_kind_of_answer_has_them_once_and_names_no_server(client, method, path, body, status):
    answer = client.request(method, path, content=body)
    assert answer.status_code == status
    said = {name: answer.headers.get_list(name) for name in EXPECTED}
    assert said == {name: [value] for name, value in EXPECTED.items()}
    assert "server" not in answer.headers


def test_a_fault_of_the_service_itself_has_them():
    app = create_app(Settings(), heads_=fake_heads())

    @app.get("/fault")
    def fault():
        raise RuntimeError("on purpose")

    with running(app) as url:
        answer = httpx.get(f"{url}/fault")
    assert answer.status_code == 500
    assert EXPECTED.items() <= dict(answer.headers).items()
    assert "on purpose" not in answer.text


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/static/red-top-left.jpg"])
def test_the_page_has_them_with_a_policy_and_a_cache_of_its_own(client, path):
    headers = client.get(path).headers
    own = {"content-security-policy": POLICY, "cache-control": "no-cache"}
    assert (EXPECTED | own).items() <= dict(headers).items()
    unchanged = client.get(path, headers={"If-None-Match": headers["etag"]})
    assert unchanged.status_code == 304
    assert (EXPECTED | own).items() <= dict(unchanged.headers).items()
