import base64
import json

import pytest
from fakes import card, picture, quantization
from pydantic import ValidationError

from service.store.card import HEAD_NAME, Card, Golden, Training


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
        set(Card.model_fields) - {"schema_version", "notes", "training", "quantization", "model_bytes"}
    ),
)
def test_a_missing_field_is_refused(field):
    content = as_json()
    del content[field]
    assert refusal(content) == (field, "Field required")


def test_a_card_of_another_schema_is_refused():
    where, _ = refusal(as_json() | {"schema_version": 2})
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


@pytest.mark.parametrize(
    ("field", "value"), [("version", 0), ("model_sha256", "abc"), ("origin", "web")]
)
def test_a_value_out_of_range_is_refused(field, value):
    where, _ = refusal(as_json() | {field: value})
    assert where == field
