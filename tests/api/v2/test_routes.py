"""What tritonclient has no call for: the raw form, headers that lie, and how an answer looks."""

import base64
import json
import threading

import pytest
from fakes import HeldBackbone, backbone, fake_heads, head, picture
from waiting import wait_until

RED, INFER, SIZE = picture("red"), "/v2/models/gap/infer", "Inference-Header-Content-Length"


def of_files(*texts, **members):
    tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}
    return {"inputs": [tensor]} | members


def test_a_raw_body_is_one_file(client):
    response = client.post(INFER, content=RED, headers={SIZE: "0"})
    [output] = response.json()["outputs"]
    assert output["shape"] == [1, 3]
    assert output["data"][0] == pytest.approx(1)
    assert client.post(INFER, content=b"", headers={SIZE: "0"}).status_code == 400


def test_a_url_is_a_picture_as_in_predict(client):
    url = f"data:image/png;base64,{base64.b64encode(RED).decode()}"
    assert client.post(INFER, json=of_files(url)).json()["outputs"][0]["data"][0] == pytest.approx(1)


@pytest.mark.parametrize("size", ["x", "-1", "1.5", "100000", ""])
def test_a_size_that_is_none_is_400(client, size):
    assert client.post(INFER, content=RED, headers={SIZE: size}).status_code == 400


def test_json_is_the_answer_unless_binary_is_asked_for(client):
    response = client.post(INFER, content=RED, headers={SIZE: "0"})
    assert response.headers["content-type"] == "application/json"
    assert SIZE not in response.headers
    assert "id" not in response.json()

    text = json.dumps(of_files("!", parameters={"binary_data_output": True})).encode()
    text = text.replace(b'"data": ["!"]', b'"parameters": {"binary_data_size": %d}' % (len(RED) + 4))
    body = text + len(RED).to_bytes(4, "little") + RED
    response = client.post(INFER, content=body, headers={SIZE: str(len(text))})
    assert response.headers["content-type"] == "application/octet-stream"
    assert len(response.content) - int(response.headers[SIZE]) == 3 * 4


def test_its_timings_are_told_and_counted(client):
    response = client.post(INFER, content=RED, headers={SIZE: "0"})
    assert "inference;dur=" in response.headers["server-timing"]
    metrics = client.get("/metrics").text
    assert 'requests_total{route="/v2/models/{head}/infer",status="200"} 1.0' in metrics
    assert 'resnet_heads_images_total{head="gap",version="1"} 1.0' in metrics
    assert 'stage_seconds_count{stage="inference"} 1.0' in metrics


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", json.dumps(of_files("!")).encode()])
def test_what_is_no_request_is_400_and_never_422(client, body):
    response = client.post(INFER, content=body)
    assert response.status_code == response.json()["status"] == 400
    assert response.json()["error"]


def test_a_wrong_method_is_405_and_a_wrong_path_404(client):
    assert client.get(INFER).status_code == 405
    assert client.post("/v2/models/gap").status_code == 405
    assert client.get("/v2/models/gap/nope").json()["status"] == 404


def test_metadata_is_also_behind_a_slash(client):
    assert client.get("/v2/").json() == client.get("/v2").json()


def test_a_full_queue_is_429_with_a_time_to_retry(connect):
    network = HeldBackbone()
    client = connect(fake_heads(head("gap", on=backbone(network))), max_queued_images=1)
    thread = threading.Thread(target=lambda: client.post(INFER, content=RED, headers={SIZE: "0"}))
    thread.start()
    wait_until(lambda: "resnet_heads_pending_images 1.0" in client.get("/metrics").text)
    refused = client.post(INFER, content=RED, headers={SIZE: "0"})
    assert (refused.status_code, int(refused.headers["retry-after"]) >= 1) == (429, True)
    network.release.set()
    thread.join(20)
