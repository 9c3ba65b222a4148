"""Requests in the form that TensorFlow Serving's documentation gives them."""

import base64
import threading

import numpy as np
import pytest
from fakes import LABELS, SIDE, HeldBackbone, backbone, fake_heads, head, picture

from service.serving.heads import HeadStatus

PREDICT = "/v1/models/gap:predict"
COLOURS = ("red", "blue")
PIXELS = np.array([[[[255, 0, 0]] * SIDE] * SIDE, [[[0, 0, 255]] * SIDE] * SIDE])


def b64(data: bytes) -> dict:
    return {"b64": base64.b64encode(data).decode()}


FILES = [b64(picture(colour)) for colour in COLOURS]


@pytest.mark.parametrize(
    "instances",
    [
        FILES,
        [{"image_bytes": file} for file in FILES],
        PIXELS.tolist(),
        PIXELS.astype(float).tolist(),
        [{"pixels": image} for image in PIXELS.tolist()],
    ],
)
def test_rows_are_answered_by_predictions(client, instances):
    response = client.post(PREDICT, json={"signature_name": "serving_default", "instances": instances})
    assert list(response.json()) == ["predictions"]
    table = response.json()["predictions"]
    assert [LABELS[int(np.argmax(row))] for row in table] == list(COLOURS)
    assert np.sum(table, axis=1) == pytest.approx([1, 1])


@pytest.mark.parametrize(
    "inputs", [FILES, {"image_bytes": FILES}, PIXELS.tolist(), {"pixels": PIXELS.tolist()}]
)
def test_a_column_is_answered_by_outputs(client, inputs):
    answer = client.post(PREDICT, json={"inputs": inputs}).json()
    assert list(answer) == ["outputs"]
    assert [LABELS[int(np.argmax(row))] for row in answer["outputs"]] == list(COLOURS)


def test_a_version_may_be_named(client):
    for path in ("/v1/models/gap/versions/1:predict", PREDICT):
        assert len(client.post(path, json={"instances": FILES}).json()["predictions"]) == 2
    assert client.post("/v1/models/gap/versions/2:predict", json={"instances": FILES}).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({}, 400, "either instances or inputs"),
        ({"instances": FILES, "inputs": FILES}, 400, "either instances or inputs"),
        ({"instances": []}, 400, "no image"),
        ({"inputs": {"image_bytes": []}}, 400, "no image"),
        ({"inputs": {"image": FILES}}, 400, "image_bytes"),
        ({"inputs": FILES[0]}, 400, "image_bytes"),
        ({"instances": ["red.png"]}, 400, "image 0"),
        ({"instances": [FILES[0], {"image": FILES[0]}]}, 400, "image 1"),
        ({"instances": [{"b64": "?"}]}, 400, "base64"),
        ({"instances": [FILES[0], b64(b"no picture")]}, 400, "Image 1"),
        ({"instances": [[[1, 2, 3]]]}, 400, "[8, 8, 3]"),
        ({"instances": (PIXELS + 1).tolist()}, 400, "0 to 255"),
        ({"instances": (PIXELS / 2).tolist()}, 400, "whole"),
        ({"instances": [[[1, 2], [3]]]}, 400, "differ in length"),
        ({"instances": [["a"]]}, 400, "numbers"),
        ({"signature_name": "other", "instances": FILES}, 400, "signature_name"),
        ({"instances": FILES * 3}, 413, "6 images"),
        ({"instances": [b64(picture("red", (101, 100)))]}, 413, "pixels"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_cannot_be_answered_is_an_error_with_the_reason(connect, body, status, told):
    client = connect(max_images_per_request=4, max_image_pixels=10_000)
    response = client.post(PREDICT, json=body)
    assert response.status_code == response.json()["status"] == status
    assert told in response.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", picture("red")])
def test_what_is_not_json_is_400(client, body):
    assert client.post(PREDICT, content=body).status_code == 400


def test_the_status_has_every_version_and_why_one_stays_out(connect):
    gap = head("gap")
    heads = fake_heads(gap, failed={"gap": {2: "damaged"}})
    client = connect(heads)
    told = client.get("/v1/models/gap").json()["model_version_status"]
    fine = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    out = {"error_code": "FAILED_PRECONDITION", "error_message": "damaged"}
    assert told == [{"version": "2", "state": "END", "status": out}, fine]
    assert client.get("/v1/models/gap/versions/1").json() == {"model_version_status": [fine]}
    heads.statuses["gap"] = HeadStatus([1], gap, {1: "damaged since"}, {1: gap})
    assert client.get("/v1/models/gap").json()["model_version_status"] == [fine]


def test_metadata_is_the_signature(client):
    answer = client.get("/v1/models/gap/versions/1/metadata").json()
    assert answer == client.get("/v1/models/gap/metadata").json()
    assert answer["model_spec"] == {"name": "gap", "signature_name": "", "version": "1"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    told = {
        name: (tensor["dtype"], [dim["size"] for dim in tensor["tensor_shape"]["dim"]])
        for name, tensor in (signature["inputs"] | signature["outputs"]).items()
    }
    assert told == {
        "pixels": ("DT_UINT8", ["-1", "8", "8", "3"]),
        "image_bytes": ("DT_STRING", ["-1"]),
        "probabilities": ("DT_FLOAT", ["-1", "3"]),
    }


@pytest.mark.parametrize("path", ["{}", "{}/versions/1", "{}/metadata", "{}/versions/1/metadata"])
def test_an_unknown_head_is_404(client, path):
    response = client.get("/v1/models/" + path.format("nope"))
    assert (response.status_code, "nope" in response.json()["error"]) == (404, True)


@pytest.mark.parametrize(("version", "status"), [("9", 404), ("0", 400), ("x", 400)])
def test_a_version_that_is_not_there_is_404_and_one_that_is_none_400(client, version, status):
    for path in ("", "/metadata"):
        assert client.get(f"/v1/models/gap/versions/{version}{path}").status_code == status


def test_a_head_that_is_not_loaded_is_503(connect):
    hold = threading.Event()
    client = connect(fake_heads(hold=hold), wait=False)
    assert client.get("/v1/models/gap").status_code == 503
    assert client.post(PREDICT, json={"instances": FILES}).status_code == 503
    hold.set()


def test_a_key_is_needed(connect):
    client = connect(api_keys="right")
    for response in (client.get("/v1/models/gap"), client.post(PREDICT, json={"instances": FILES})):
        assert response.status_code == 401


def test_a_deadline_that_passes_is_504(connect):
    network = HeldBackbone()
    client = connect(fake_heads(head("gap", on=backbone(network))))
    headers = {"X-Request-Timeout-Ms": "200"}
    assert client.post(PREDICT, json={"instances": FILES}, headers=headers).status_code == 504
    network.release.set()
