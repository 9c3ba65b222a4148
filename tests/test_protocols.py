"""The same picture in each protocol, on a real store, by the clients that people have."""

import base64
import json
import subprocess
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from process import serving

PICTURE = Path(__file__).parents[1] / "examples" / "red-top-left.jpg"


@pytest.fixture(scope="module")
def url(small_store):
    with serving(small_store) as server:
        yield server.url


def by_curl(url, head):
    command = ["curl", "-s", "--data-binary", f"@{PICTURE}", f"{url}/predict?head={head}&top_k=100"]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    predictions = answer["results"][0]["predictions"]
    return [one["probability"] for one in sorted(predictions, key=lambda one: one["index"])]


def by_tritonclient(url, head):
    tensor = triton.InferInput("image_bytes", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([PICTURE.read_bytes()], object))
    with closing(triton.InferenceServerClient(url.removeprefix("http://"))) as client:
        return client.infer(head, [tensor]).as_numpy("probabilities")[0]


def by_tensorflow_serving(url, head):
    image = {"b64": base64.b64encode(PICTURE.read_bytes()).decode()}
    answer = httpx.post(f"{url}/v1/models/{head}:predict", json={"instances": [image]}, timeout=60)
    return answer.json()["predictions"][0]


@pytest.mark.parametrize("head", ["gap", "flatten"])
def test_curl_tritonclient_and_tensorflow_serving_get_the_same(url, head):
    answers = np.array([ask(url, head) for ask in (by_curl, by_tritonclient, by_tensorflow_serving)])
    assert answers.shape == (3, 5)
    np.testing.assert_allclose(answers[1:], answers[:1].repeat(2, axis=0), atol=1e-6)


@pytest.mark.parametrize("head", ["gap", "flatten"])
def test_pixels_get_what_keras_gives_for_the_saved_model(url, small_store, head):
    from keras_models import keras, pixels

    pictures = pixels(8, seed=5)
    model = keras.models.load_model(small_store.folder(head, 1) / "model.keras")
    expected = model.predict(
        keras.applications.resnet50.preprocess_input(pictures.astype("float32")), verbose=0
    )
    tensor = triton.InferInput("pixels", list(pictures.shape), "UINT8")
    tensor.set_data_from_numpy(pictures)
    with closing(triton.InferenceServerClient(url.removeprefix("http://"))) as client:
        answer = client.infer(head, [tensor]).as_numpy("probabilities")
    np.testing.assert_allclose(answer, expected, atol=1e-4)
    rows = {"instances": pictures.tolist()}
    answer = httpx.post(f"{url}/v1/models/{head}:predict", json=rows, timeout=60).json()["predictions"]
    np.testing.assert_allclose(answer, expected, atol=1e-4)
