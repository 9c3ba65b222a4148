"""Nothing that is said is taken as not said: a shell's unset variable is an empty text, and is told."""

import base64

import pytest
from fakes import picture

RED = picture("red")
FILE = base64.b64encode(RED).decode()
ROUTES = [("/predict", "head"), ("/explain", "head"), ("/shift", "head"), ("/compare", "heads")]


def is_unknown_head(response):
    return response.status_code == 404 and response.json()["type"].endswith("unknown-head")


@pytest.mark.parametrize(("path", "name"), ROUTES)
def test_an_empty_name_of_a_head_is_the_name_of_none(linear, path, name):
    for answer in (
        linear.post(path, params={name: ""}, content=RED),
        linear.post(path, files={"file": RED}, data={name: ""}),
        linear.post(path, json={"images": [FILE], name: ""}),
        linear.post(path, params={name: ""}, json={"images": [FILE], name: "gap"}),
    ):
        assert is_unknown_head(answer), answer.text
        assert "''" in answer.json()["detail"]


@pytest.mark.parametrize("heads", ["gap,", ",gap", "gap,,flatten", " "])
def test_so_it_is_in_a_list(linear, heads):
    assert is_unknown_head(linear.post("/compare", params={"heads": heads}, content=RED))
    assert is_unknown_head(linear.post("/shift", params={"head": heads.split(",")}, content=RED))


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/{}:predict",
        "/v1/models/{}/versions/1:predict",
        "/v2/models/{}/infer",
        "/v2/models/{}/versions/1/infer",
    ],
)
def test_so_it_is_in_a_path_that_takes_images(linear, path):
    answer = linear.post(path.format(""), content=RED)
    assert is_unknown_head(answer)
    assert answer.headers["content-type"] == "application/json"
    assert linear.post(path.format("nope"), content=RED).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/heads/",
        "/v1/models/",
        "/v1/models//metadata",
        "/v1/models//versions/1",
        "/v2/models/",
        "/v2/models//ready",
        "/v2/models//versions/1",
        "/v2/models//versions/1/ready",
    ],
)
def test_so_it_is_in_a_path_that_asks_about_one(linear, path):
    assert is_unknown_head(linear.get(path))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/predict", "version"),
        ("/predict", "top_k"),
        ("/explain", "version"),
        ("/explain", "class"),
        ("/explain", "format"),
        ("/shift", "offset"),
        ("/compare", "top_k"),
    ],
)
def test_an_empty_parameter_is_a_bad_one(linear, path, name):
    for answer in (
        linear.post(path, params={name: ""}, content=RED),
        linear.post(path, files={"file": RED}, data={name: ""}),
        linear.post(path, json={"images": [FILE], name: ""}),
    ):
        assert answer.status_code == 422
        assert name in answer.json()["detail"]


@pytest.mark.parametrize("name", ["X-Request-Timeout-Ms", "Inference-Header-Content-Length"])
def test_an_empty_header_is_a_bad_one(linear, name):
    answer = linear.post("/v2/models/gap/infer", content=RED, headers={name: ""})
    assert answer.status_code == 400
    assert name in answer.json()["detail"]


@pytest.mark.parametrize("members", [{"heads": []}, {"heads": [""]}, {"engines": [""]}])
def test_a_benchmark_of_nothing_is_a_bad_one(linear, members):
    assert linear.post("/benchmark", json=members).status_code == 422
