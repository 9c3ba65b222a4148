"""The service as a process, on a real store: parity with Keras over HTTP, signals, wrong arguments."""

import json
import os
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from children import python
from image_files import encoded
from process import MODULES, run, serving
from waiting import wait_until

HERE = Path(__file__).parent


@pytest.fixture(scope="module", params=["openvino", pytest.param("keras", marks=pytest.mark.slow)])
def client(request, small_store):
    with (
        serving(small_store, "--engine", request.param) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        yield client


def probabilities(answer: dict) -> np.ndarray:
    """(images, classes), in label order."""
    rows = [
        {p["index"]: p["probability"] for p in result["predictions"]} for result in answer["results"]
    ]
    return np.array([[row[index] for index in sorted(row)] for row in rows])


@pytest.mark.parametrize("head", ["gap", "flatten"])
def test_predict_gives_what_keras_gives_for_the_saved_model(client, small_store, head):
    """One image in a request, eight in a request, and eight requests at once that ride in batches."""
    from keras_models import keras, pixels

    pictures = pixels(8, seed=5)
    files = [encoded(picture) for picture in pictures]
    model = keras.models.load_model(small_store.folder(head, 1) / "model.keras")
    expected = model.predict(
        keras.applications.resnet50.preprocess_input(pictures.astype("float32")), verbose=0
    )
    assert np.ptp(expected, axis=0).max() > 0.05, "the pictures must differ"

    one = client.post(f"/predict?head={head}&top_k=5", content=files[0]).json()
    many = client.post(f"/predict?head={head}&top_k=5", files=[("file", file) for file in files]).json()
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(
            lambda file: client.post(f"/predict?head={head}&top_k=5", content=file).json(), files
        )
        batched = np.concatenate([probabilities(answer) for answer in answers])
    np.testing.assert_allclose(probabilities(one), expected[:1], atol=1e-4)
    np.testing.assert_allclose(probabilities(many), expected, atol=1e-4)
    np.testing.assert_allclose(batched, expected, atol=1e-4)


def test_no_answer_says_which_server_it_is_from(client):
    for path in ("/healthz", "/nope", "/"):
        headers = client.get(path).headers
        assert "server" not in headers
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("head", ["gap", "flatten"])
def test_explain_adds_up_to_the_logit_of_what_predict_answers(client, head):
    image = (HERE.parent / "examples" / "red-top-left.jpg").read_bytes()
    predicted = client.post(f"/predict?head={head}&top_k=2", content=image).json()["results"][0]
    first, second = predicted["predictions"]
    logits = []
    for wanted in (first, second):
        answer = client.post(f"/explain?head={head}&class={wanted['index']}", content=image).json()
        (one,) = answer["results"]
        total = np.sum(one["grid"]) + one["constant"]
        assert abs(total - one["logit"]) <= 1e-4 * max(1, abs(one["logit"]))
        assert one["label"] == wanted["label"]
        logits.append(one["logit"])
    odds = first["probability"] / second["probability"]
    assert np.exp(logits[0] - logits[1]) == pytest.approx(odds, rel=1e-3)


def test_serving_with_openvino_never_imports_tensorflow(small_store):
    code = f"""
import sys, httpx
from live import running
from waiting import wait_until
from fakes import picture
from service.app import create_app
from service.settings import Settings
app = create_app(Settings(store_dir={str(small_store.root)!r}, engine="openvino"))
with running(app) as url:
    wait_until(lambda: httpx.get(url + "/readyz").status_code == 200)
    for route in ("/predict", "/explain", "/explain?format=png", "/shift"):
        assert httpx.post(url + route, content=picture()).status_code == 200
    raw = {{"Inference-Header-Content-Length": "0"}}
    assert httpx.post(url + "/v2/models/gap/infer", content=picture(), headers=raw).status_code == 200
    rows = {{"instances": [[[[0] * 3] * 64] * 64]}}
    assert httpx.post(url + "/v1/models/gap:predict", json=rows).status_code == 200
print(sorted({{"tensorflow", "keras", "nncf", "service.lab", "openvino"}} & set(sys.modules)))
"""
    done = subprocess.run(
        python(code), env=os.environ | MODULES, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "['openvino']", done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(small_store, number):
    with serving(small_store) as server:
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        assert server.stop(number) == 0
    assert "Traceback" not in "".join(server.lines)


def test_it_says_where_it_is_and_what_to_try(small_store):
    with serving(small_store) as server:
        wait_until(lambda: any("Try: curl" in line for line in server.lines))
    assert f"Serving flatten, gap on {server.url}\n" in server.lines
    assert server.url.startswith("http://127.0.0.1:")


def test_with_json_every_line_of_its_error_stream_is_an_object(small_store):
    with serving(small_store, "--log-format", "json") as server:
        httpx.get(f"{server.url}/healthz", headers={"X-Request-ID": "mine"})
        assert server.stop() == 0
    told = [json.loads(line) for line in server.lines]
    assert any(line["message"] == f"Serving flatten, gap on {server.url}" for line in told)
    assert [line["route"] for line in told if line.get("request_id") == "mine"] == ["/healthz"]


def test_settings_come_from_the_environment_and_flags_win(small_store):
    with serving(
        small_store,
        "--default-head",
        "flatten",
        RESNET_HEADS_DEFAULT_HEAD="gap",
        RESNET_HEADS_API_KEYS="k",
    ) as server:
        assert httpx.get(f"{server.url}/heads").status_code == 401
        image = (HERE.parent / "examples" / "red-top-left.jpg").read_bytes()
        answer = httpx.post(
            f"{server.url}/predict", content=image, headers={"X-API-Key": "k"}, timeout=30
        )
        assert answer.json()["head"] == "flatten"


def test_a_port_in_use_is_one_line_and_exit_2():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("serve", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "in use" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_ipv6_address_is_told_so_that_a_client_can_use_it(small_store):
    """This one is IPv4's loopback, so that it is there also where IPv6 has no address."""
    with serving(small_store, "--host", "::ffff:127.0.0.1") as server:
        assert server.url.startswith("http://[::ffff:127.0.0.1]:")
        assert httpx.get(f"{server.url}/readyz").status_code == 200


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (["serve", "--host", "a..b"], {}, "'a..b'"),
        (["serve", "--host", "nowhere.invalid"], {}, "'nowhere.invalid'"),
        (["serve", "--host", "192.0.2.1"], {}, "'192.0.2.1'"),
        (["serve"], {"RESNET_HEADS_PINNED": "gap=new"}, "setting pinned.gap"),
        ([], {}, "COMMAND"),
    ],
)
def test_what_it_cannot_do_is_one_sentence_and_exit_2(arguments, environment, told):
    done = run(*arguments, **environment)
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
