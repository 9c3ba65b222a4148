import base64
import json
from pathlib import Path

import numpy as np
import pytest
from fakes import card, picture, quantization
from pydantic import ValidationError

from service.store.card import HEAD_NAME, PREPROCESSING, Card, Golden, Source, Training


def as_json(**changes):
    return json.loads(card(**changes).model_dump_json())


def refusal(content):
    """Where a card is wrong, and how."""
    with pytest.raises(ValidationError) as refused:
        Card.model_validate_json(json.dumps(content))
    first = refused.value.errors()[0]
    return ".".join(map(str, first["loc"])), first["msg"]


def test_a_card_survives_its_json():
    training = Training(
        images_train=4, images_test=2, seed=1, seconds=0.5, accuracy=0.5, accuracy_by={"colour": 1.0}
    )
    quantized = quantization(files={"network.bin": "1" * 64})
    written = card(
        labels=("rød", "緑", "blue"), notes=("a note",), training=training, quantization=quantized
    )
    assert Card.model_validate_json(written.model_dump_json()) == written


def test_a_card_from_before_int8_has_the_tolerance_of_float32():
    content = as_json()
    del content["quantization"], content["golden"]["tolerance"]
    assert Card.model_validate(content) == card()
    assert card().golden.tolerance == 1e-3


def test_the_golden_image_is_base64_in_json_and_bytes_in_memory():
    content = as_json()
    assert base64.b64decode(content["golden"]["image"]) == picture("red")
    assert Card.model_validate(content).golden.image == picture("red")


def test_golden_probabilities_keep_every_digit():
    exact = (0.1, 1 / 3, 0.5666666666666667)
    written = card(golden=Golden.model_construct(image=picture(), probabilities=exact))
    assert Card.model_validate_json(written.model_dump_json()).golden.probabilities == exact


def test_an_unknown_field_is_refused():
    assert refusal(as_json() | {"temperature": 1.5}) == (
        "temperature",
        "Extra inputs are not permitted",
    )


@pytest.mark.parametrize("part", ["input", "output", "backbone", "structure", "golden"])
def test_an_unknown_field_in_a_part_is_refused(part):
    content = as_json()
    content[part]["temperature"] = 1.5
    assert refusal(content) == (f"{part}.temperature", "Extra inputs are not permitted")


@pytest.mark.parametrize(
    "field",
    sorted(
        set(Card.model_fields)
        - {"schema_version", "precision", "head_weights", "notes", "training", "quantization"}
    ),
)
def test_a_missing_field_is_refused(field):
    content = as_json()
    del content[field]
    assert refusal(content) == (field, "Field required")


def test_a_card_of_another_schema_is_refused():
    where, _ = refusal(as_json() | {"schema_version": 3})
    assert where == "schema_version"


@pytest.mark.parametrize("labels", [["red", "green"], ["red", "green", "blue", "grey"]])
def test_labels_that_do_not_fit_the_probabilities_are_refused(labels):
    _, message = refusal(as_json() | {"labels": labels})
    assert f"3 golden probabilities for {len(labels)} labels" in message


@pytest.mark.parametrize("name", ["", "Gap", "a b", "../gap", ".gap", "a" * 64, "gap\n"])
def test_a_name_that_could_not_be_a_folder_is_refused(name):
    assert not HEAD_NAME.fullmatch(name)
    where, _ = refusal(as_json() | {"head": name})
    assert where == "head"


@pytest.mark.parametrize(("field", "value"), [("version", 0), ("origin", "web"), ("precision", "f64")])
def test_a_value_out_of_range_is_refused(field, value):
    where, _ = refusal(as_json() | {field: value})
    assert where == field


def test_a_source_without_its_main_file_is_refused():
    content = as_json()
    content["source"]["files"] = {}
    where, message = refusal(content)
    assert (where, "must have the file model.keras" in message) == ("source", True)


@pytest.mark.parametrize("name", PREPROCESSING)
def test_preprocessing_that_has_a_name_is_written_as_the_name(name):
    content = as_json(input=card().input.model_copy(update={"preprocessing": PREPROCESSING[name]}))
    assert content["input"]["preprocessing"] == name
    assert Card.model_validate(content).input.preprocessing == PREPROCESSING[name]


def test_preprocessing_without_a_name_is_written_as_data():
    own = {"order": "bgr", "mean": [1.5, 2.0, 3.0], "std": [4.0, 5.0, 6.0]}
    content = as_json()
    content["input"]["preprocessing"] = own
    read = Card.model_validate(content)
    assert json.loads(read.model_dump_json())["input"]["preprocessing"] == own
    assert str(read.input.preprocessing) == "bgr, mean 1.5,2,3, std 4,5,6"


@pytest.mark.parametrize("name", ["caffe", "tf", "torch"])
def test_the_names_of_keras_mean_what_keras_does(name):
    from keras.applications import imagenet_utils as keras_utils  # slow: only this test needs it

    pixels = np.linspace(0, 255, 48, dtype=np.float32).reshape(4, 4, 3)
    how = PREPROCESSING[name]
    ordered = pixels[..., ::-1] if how.order == "bgr" else pixels
    ours = (ordered - np.float32(how.mean)) / np.float32(how.std)
    np.testing.assert_allclose(
        ours, keras_utils.preprocess_input(pixels.copy(), mode=name), rtol=0, atol=2e-5
    )


@pytest.mark.parametrize(
    "told",
    ["imagenet", {"order": "grb"}, {"std": [1, 0, 1]}, {"mean": [0, 0]}, {"mean": [0, 0, float("nan")]}],
)
def test_preprocessing_that_makes_no_sense_is_refused(told):
    content = as_json()
    content["input"]["preprocessing"] = told
    where, _ = refusal(content)
    assert where.startswith("input.preprocessing")


# cards of version 1

RELEASED = Path(__file__).parent / "releases/0.1.0/store"


def version_1(head="gap"):
    return json.loads((RELEASED / head / "1/card.json").read_text())


@pytest.mark.parametrize(
    ("head", "precision"), [("gap", "f32"), ("flatten", "f32"), ("gap-int8", "int8")]
)
def test_an_older_card_is_read_as_it_was_meant(head, precision):
    old = version_1(head)
    read = Card.model_validate(old)
    assert (read.schema_version, read.precision, read.head_weights) == (2, precision, "f32")
    assert read.source == Source(
        format="keras", files={"model.keras": old["model_sha256"]}, bytes=old["model_bytes"]
    )
    assert (read.input.exif, read.input.preprocessing) == ("applied", PREPROCESSING["caffe"])
    new = json.loads(read.model_dump_json())
    assert (new["quantization"] or {}).pop("largest_change", None) is None
    same = old.keys() - {"schema_version", "model_sha256", "model_bytes", "input"}
    assert {name: new[name] for name in same} == {name: old[name] for name in same}
    assert new["input"] == old["input"] | {"exif": "applied"}
    assert Card.model_validate(new) == read


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"source": {}}, ""),
        ({"precision": "bf16"}, ""),
        ({"temperature": 1}, "temperature"),
        ({"model_sha256": None}, "source.files.model.keras"),
    ],
)
def test_an_older_card_with_what_it_never_had_is_refused(change, where):
    assert refusal(version_1() | change)[0] == where


def test_an_older_card_whose_input_names_exif_is_refused():
    content = version_1()
    content["input"]["exif"] = "ignored"
    assert "input.exif is not a field of schema version 1" in refusal(content)[1]
