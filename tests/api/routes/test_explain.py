import io

import numpy as np
import pytest
from fakes import LinearHead, MeanBackbone, backbone, fake_heads, head, picture
from image_files import encoded
from PIL import Image

RED, GREEN, BLUE = picture("red"), picture("green"), picture("blue")
MIXED = picture((200, 100, 0))


def result(response):
    assert response.status_code == 200, response.text
    return response.json()["results"][0]


def problem(response, status):
    assert response.status_code == status, response.text
    return response.json()


def test_the_likeliest_class_is_explained_and_the_map_adds_up(linear):
    answer = result(linear.post("/explain", content=MIXED))
    assert (answer["label"], answer["index"]) == ("red", 0)
    assert answer["grid"] == [[pytest.approx(2.0, abs=1e-4)]]
    assert answer["constant"] == pytest.approx(0.1)
    assert answer["logit"] == pytest.approx(2.1, abs=1e-4)
    odds = np.exp([2.1, 1.0, 0.0])
    assert answer["probability"] == pytest.approx(odds[0] / odds.sum(), abs=1e-4)


def test_any_class_can_be_asked_for_by_label_or_index_in_query_form_or_json(linear):
    import base64

    encoded = base64.b64encode(MIXED).decode()
    answers = [
        linear.post("/explain?class=green", content=MIXED),
        linear.post("/explain?class=1", content=MIXED),
        linear.post("/explain", files={"file": MIXED}, data={"class": "green", "head": "gap"}),
        linear.post("/explain", json={"images": [encoded], "class": "green"}),
        linear.post("/explain", json={"images": [encoded], "class": 1}),
        linear.post("/explain?class=green", json={"images": [encoded], "class": "blue"}),
    ]
    for answer in map(result, answers):
        assert answer["label"] == "green"
        assert answer["logit"] == pytest.approx(1.0, abs=1e-4)


def test_a_label_that_is_a_number_wins_over_the_index(connect):
    client = connect(fake_heads(head("gap", LinearHead(), labels=("2", "0", "1"))))
    assert result(client.post("/explain?class=0", content=MIXED))["index"] == 1


@pytest.mark.parametrize("name", ["purple", "3", "-1", "", "1.0", "٣", "9" * 400])
def test_a_class_that_is_not_there_is_422(linear, name):
    answer = linear.post("/explain", params={"class": name}, content=MIXED)
    assert "class" in problem(answer, 422)["detail"]


def test_every_image_has_a_map_of_its_own_likeliest_class(linear):
    answer = linear.post("/explain", files=[("file", RED), ("file", BLUE)])
    assert [one["label"] for one in answer.json()["results"]] == ["red", "blue"]
    assert set(answer.json()["timing_ms"]) == {"decode", "queue", "inference", "total"}
    assert "total;dur=" in answer.headers["server-timing"]


def test_a_head_without_an_exact_map_says_so(linear):
    answer = problem(linear.post("/explain?head=flatten", content=MIXED), 422)
    assert answer["type"] == "urn:resnet-heads:problem:cannot-explain"
    assert "cannot be explained exactly: it is a fake" in answer["detail"]


def test_a_png_shows_the_picture_under_the_map(linear):
    answer = linear.post("/explain?format=png&class=blue", content=MIXED)
    assert answer.headers["content-type"] == "image/png"
    assert "inference;dur=" in answer.headers["server-timing"]
    image = Image.open(io.BytesIO(answer.content))
    image.load()
    assert image.width >= 448


def test_a_png_is_of_one_image(linear):
    answer = linear.post("/explain?format=png", files=[("file", RED), ("file", BLUE)])
    assert "one image" in problem(answer, 422)["detail"]


@pytest.mark.parametrize(
    "path", ["/explain?format=gif", "/explain?top_k=2", "/shift?class=red", "/shift?step=1"]
)
def test_parameters_that_a_route_does_not_know_are_422(linear, path):
    assert problem(linear.post(path, content=MIXED), 422)["title"] == "Bad parameter"


@pytest.mark.parametrize("path", ["/explain", "/shift"])
def test_bad_bodies_and_heads_are_told_as_by_predict(linear, path):
    assert problem(linear.post(path, content=b"no image"), 422)["title"] == "Not an image"
    assert problem(linear.post(path, content=b""), 422)["title"] == "No image"
    assert problem(linear.post(f"{path}?head=nobody", content=RED), 404)["title"] == "Unknown head"


class Column(MeanBackbone):
    """The colour of the pixel in the middle: what is there changes when the picture moves."""

    def compute(self, batch):
        middle = batch.shape[1] // 2
        return batch[:, middle : middle + 1, middle : middle + 1].astype(float)


def half_red_half_blue():
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4], pixels[:, 4:] = (255, 0, 0), (0, 0, 255)
    return encoded(pixels)


def test_a_moved_picture_changes_the_answer_of_a_head_that_looks_at_one_place(connect):
    looks = head("looks", on=backbone(Column()))
    means = head("means", on=backbone(digest="c" * 64))
    client = connect(fake_heads(looks, means))
    body = client.post(
        "/shift", params={"offset": ["0,0", "1,0", "4,0", "0,3", "-2,0"]}, content=half_red_half_blue()
    ).json()
    assert body["offsets"] == [[0, 0], [1, 0], [4, 0], [0, 3], [-2, 0]]
    one, other = body["heads"]
    assert (one["head"], one["label"], other["head"]) == ("looks", "blue", "means")
    assert [answer["label"] for answer in one["answers"]] == ["blue", "red", "red", "blue", "blue"]
    assert one["stability"] == 3 / 5
    assert one["drift_max"] == pytest.approx(1, abs=1e-3)
    assert one["drift_mean"] == pytest.approx(2 / 5, abs=1e-3)
    assert one["answers"][1]["kept"] == pytest.approx(0, abs=1e-3)
    shares = [0.5, 5 / 8, 1.0, 0.5, 6 / 8]  # of the colour that is likelier there
    assert [answer["probability"] for answer in other["answers"]] == pytest.approx(shares, abs=1e-3)


def test_without_offsets_25_places_are_tried_in_one_pass_of_each_backbone(connect):
    seen = MeanBackbone()
    shared = backbone(seen)
    client = connect(fake_heads(head("gap", on=shared), head("flatten", on=shared)))
    body = client.post("/shift", content=RED).json()
    assert len(body["offsets"]) == 25
    assert [one["head"] for one in body["heads"]] == ["flatten", "gap"]
    assert all(one["stability"] == 1 and one["drift_max"] == 0 for one in body["heads"])
    assert sum(seen.sizes) == 25


def test_heads_can_be_chosen_one_or_more(linear):
    for given, expected in ((["gap"], ["gap"]), (["flatten", "gap", "flatten"], ["flatten", "gap"])):
        body = linear.post("/shift", params={"head": given, "offset": "8,8"}, content=RED).json()
        assert [one["head"] for one in body["heads"]] == expected
    form = {"head": ["flatten", "gap"], "offset": ["1,1", "2,2"]}
    body = linear.post("/shift", files={"file": RED}, data=form).json()
    assert (len(body["heads"]), body["offsets"]) == (2, [[1, 1], [2, 2]])


@pytest.mark.parametrize(
    "offset", ["", "8", "8,", "8;8", "8,8,8", "a,b", "1000,0", "8.5,0", " 1,1", "٣,1"]
)
def test_an_offset_of_another_form_is_422(linear, offset):
    assert (
        "offset" in problem(linear.post("/shift", params={"offset": offset}, content=RED), 422)["detail"]
    )


def test_too_many_offsets_are_422(linear):
    many = [f"{right},0" for right in range(65)]
    assert (
        "offset" in problem(linear.post("/shift", params={"offset": many}, content=RED), 422)["detail"]
    )


def test_a_shift_is_of_one_image(linear):
    answer = problem(linear.post("/shift", files=[("file", RED), ("file", BLUE)]), 422)
    assert "one image" in answer["detail"]


def test_both_routes_need_a_key_where_there_are_keys(connect):
    client = connect(fake_heads(head("gap", LinearHead())), api_keys="secret")
    for path in ("/explain", "/shift"):
        assert problem(client.post(path, content=RED), 401)["title"] == "Not authorized"
        answer = client.post(path, content=RED, headers={"x-api-key": "secret"})
        assert answer.status_code == 200
