"""Every route, asked once as it should be and once as it should not."""

import base64

import pytest
from fakes import LinearHead, fake_heads, head, picture

from service.app import create_app
from service.settings import Settings

RED = picture("red")
TEXT = base64.b64encode(RED).decode()
FILES = {
    "inputs": [{"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [TEXT]}],
    "id": "7",
}
ROWS = {"instances": [{"b64": TEXT}]}
PLAN = {"heads": ["none"]}

# route: what to ask, the status, and a key of its JSON; None where it is none
ASKED = {
    "POST /predict": ({"content": RED}, 200, "results"),
    "POST /compare": ({"files": {"file": RED}}, 200, "agreement"),
    "POST /explain": ({"json": {"images": [TEXT]}}, 200, "results"),
    "POST /shift": ({"content": RED}, 200, "offsets"),
    "GET /heads": ({}, 200, "heads"),
    "GET /heads/{head}": ({}, 200, "versions"),
    "GET /benchmark": ({}, 404, "error"),
    "POST /benchmark": ({"json": PLAN}, 404, "error"),
    "GET /healthz": ({}, 200, "status"),
    "GET /readyz": ({}, 200, "heads"),
    "GET /metrics": ({}, 200, None),
    "GET /": ({}, 200, None),
    "GET /v2": ({}, 200, "extensions"),
    "GET /v2/health/live": ({}, 200, "live"),
    "GET /v2/health/ready": ({}, 200, "ready"),
    "GET /v2/models/{head}": ({}, 200, "inputs"),
    "GET /v2/models/{head}/versions/{version}": ({}, 200, "inputs"),
    "GET /v2/models/{head}/ready": ({}, 200, "ready"),
    "GET /v2/models/{head}/versions/{version}/ready": ({}, 200, "ready"),
    "POST /v2/models/{head}/infer": ({"json": FILES}, 200, "outputs"),
    "POST /v2/models/{head}/versions/{version}/infer": ({"json": FILES}, 200, "outputs"),
    "GET /v1/models/{head}": ({}, 200, "model_version_status"),
    "GET /v1/models/{head}/versions/{version}": ({}, 200, "model_version_status"),
    "GET /v1/models/{head}/metadata": ({}, 200, "metadata"),
    "GET /v1/models/{head}/versions/{version}/metadata": ({}, 200, "metadata"),
    "POST /v1/models/{head}:predict": ({"json": ROWS}, 200, "predictions"),
    "POST /v1/models/{head}/versions/{version}:predict": ({"json": ROWS}, 200, "predictions"),
}


def documented():
    paths = create_app(Settings()).openapi()["paths"]
    return {f"{method.upper()} {path}" for path, item in paths.items() for method in item}


def test_no_route_is_left_out():
    assert documented() <= set(ASKED)


@pytest.mark.parametrize("route", ASKED)
def test_a_route_answers(ask, tmp_path, route):
    request, status, key = ASKED[route]
    method, path = route.split()
    heads = fake_heads(head("gap", LinearHead()))
    app = create_app(Settings(store_dir=tmp_path, cache_dir=tmp_path / "cache"), heads_=heads)
    answer = ask(method, path.format(head="gap", version=1), app=app, **request)
    assert answer.status_code == status, answer.text
    assert answer.headers["x-request-id"]
    assert key is None or key in answer.json()


# probes, the page, and metrics, whose key is a setting
OPEN = {
    "GET /healthz",
    "GET /readyz",
    "GET /v2/health/live",
    "GET /v2/health/ready",
    "GET /",
    "GET /metrics",
}
POSTS = [route for route in ASKED if route.startswith("POST") and "benchmark" not in route]


@pytest.mark.parametrize("route", POSTS)
def test_what_is_no_picture_is_refused_in_a_sentence(ask, route):
    answer = ask("POST", route.split()[1].format(head="gap", version=1), content=b"\xff\x00 no picture")
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"].endswith(".")


@pytest.mark.parametrize("route", [route for route in ASKED if "{head}" in route])
def test_an_unknown_head_is_404(ask, route):
    request, _, _ = ASKED[route]
    method, path = route.split()
    answer = ask(method, path.format(head="nobody", version=1), **request)
    assert answer.status_code == 404
    assert "nobody" in answer.json()["error"]


@pytest.mark.parametrize("route", [route for route in ASKED if route not in OPEN])
def test_a_route_asks_for_a_key_where_keys_are_set(ask, route):
    request, _, _ = ASKED[route]
    method, path = route.split()
    app = create_app(Settings(api_keys=("k",)), heads_=fake_heads())
    assert ask(method, path.format(head="gap", version=1), app=app, **request).status_code == 401
