import base64
import json

import numpy as np
import pytest
from fakes import SlowHead, backbone, fake_heads, head, picture

RED, GREEN, BLUE = picture("red"), picture("green"), picture("blue")


def top(response, index=0):
    assert response.status_code == 200, response.text
    return response.json()["results"][index]["predictions"][0]["label"]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "image/png",
        "image/jpeg",
        "application/octet-stream",
        "nonsense",
        "",
    ],
)
def test_raw_bytes_are_one_image_whatever_their_type(client, content_type):
    response = client.post("/predict?head=gap", content=GREEN, headers={"content-type": content_type})
    assert top(response) == "green"
    assert len(response.json()["results"]) == 1


def test_a_missing_type_is_an_image_too(client):
    request = client.build_request("POST", "/predict", content=BLUE)
    request.headers.pop("content-type", None)
    assert top(client.send(request)) == "blue"


def test_multipart_files_get_a_result_each_in_order(client):
    files = [("file", ("a.png", RED)), ("file", ("b.png", BLUE)), ("file", ("c.png", GREEN))]
    response = client.post("/predict", files=files, data={"head": "flatten", "top_k": "1"})
    assert [top(response, index) for index in range(3)] == ["red", "blue", "green"]
    assert response.json()["head"] == "flatten"
    assert all(len(result["predictions"]) == 1 for result in response.json()["results"])


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_json_takes_base64_and_data_urls(client, prefix):
    images = [prefix + base64.b64encode(image).decode() for image in (BLUE, RED)]
    response = client.post("/predict", json={"head": "flatten", "top_k": 2, "images": images})
    assert (top(response, 0), top(response, 1)) == ("blue", "red")
    assert len(response.json()["results"][0]["predictions"]) == 2


def test_predictions_are_ranked_and_numbered_by_label(client):
    predictions = client.post("/predict", content=picture((30, 200, 90))).json()["results"][0][
        "predictions"
    ]
    assert [(p["label"], p["index"]) for p in predictions] == [("green", 1), ("blue", 2), ("red", 0)]
    expected = np.array([200, 90, 30]) / 320
    np.testing.assert_allclose([p["probability"] for p in predictions], expected, atol=1e-6)


def test_the_query_wins_over_the_form(client):
    files = [("file", ("a.png", RED))]
    response = client.post(
        "/predict?head=gap&top_k=1", files=files, data={"head": "flatten", "top_k": "3"}
    )
    assert response.json()["head"] == "gap"
    assert len(response.json()["results"][0]["predictions"]) == 1


def test_the_default_head_answers_when_none_is_named(connect):
    assert connect(default_head="flatten").post("/predict", content=RED).json()["head"] == "flatten"


def test_more_classes_than_there_are_gives_all(client):
    assert len(client.post("/predict?top_k=10000", content=RED).json()["results"][0]["predictions"]) == 3


def test_timings_add_up_and_stand_in_the_header(connect):
    client = connect(fake_heads(head("gap", SlowHead(0.05))))
    response = client.post("/predict", content=RED)
    timing = response.json()["timing_ms"]
    assert timing["inference"] >= 50
    assert timing["decode"] + timing["queue"] + timing["inference"] <= timing["total"] + 1
    told = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    assert {name: float(ms) for name, ms in told.items()} == pytest.approx(timing, abs=1e-3)


def test_compare_asks_every_head_and_says_whether_they_agree(client):
    files = [("file", ("a.png", RED)), ("file", ("b.png", BLUE))]
    answer = client.post("/compare", files=files).json()
    assert [head["head"] for head in answer["heads"]] == ["flatten", "gap"]
    assert [result["predictions"]["gap"][0]["label"] for result in answer["results"]] == ["red", "blue"]
    assert answer["agreement"] == 1.0


class Contrary(SlowHead):
    """Ranks the other way round."""

    def compute(self, batch):
        return 1 - super().compute(batch)


def test_compare_sees_disagreement(connect):
    heads = fake_heads(head("gap"), head("odd", Contrary(0)))
    answer = connect(heads).post("/compare", content=RED).json()
    assert answer["agreement"] == 0.0
    assert answer["results"][0]["agree"] is False


def test_compare_passes_the_backbone_once_where_heads_share(connect):
    shared = backbone()
    client = connect(fake_heads(head("gap", on=shared), head("flatten", on=shared), head("alone")))
    assert client.post("/compare?heads=gap,flatten", content=RED).status_code == 200
    assert shared.network.sizes == [1]


def test_compare_takes_heads_from_the_form_or_json(client):
    image = base64.b64encode(RED).decode()
    by_json = client.post("/compare", json={"heads": "gap", "images": [image]}).json()
    by_form = client.post("/compare", files={"file": RED}, data={"heads": " gap , gap"}).json()
    assert [h["head"] for h in by_json["heads"]] == [h["head"] for h in by_form["heads"]] == ["gap"]


def test_the_wrong_word_for_the_route_is_refused(client):
    assert client.post("/predict", files={"file": RED}, data={"heads": "gap"}).status_code == 422
    assert client.post("/compare", files={"file": RED}, data={"head": "gap"}).status_code == 422


def test_answers_are_json_of_the_documented_shape(client):
    answer = json.loads(client.post("/predict", content=RED).content)
    assert list(answer) == ["head", "version", "engine", "precision", "results", "timing_ms"]
    assert list(answer["timing_ms"]) == ["decode", "queue", "inference", "total"]
