"""A version that holds the same file, labels and input is found; any that answers otherwise is not."""

import pytest
from fakes import INPUT, LABELS, card, publish, quantization, source
from stored import empty

from service.store.card import PREPROCESSING
from service.store.identical import find_identical
from service.store.layout import CARD, MODEL


@pytest.fixture
def store(tmp_path):
    return empty(tmp_path)


def test_it_is_found_whatever_was_noted_of_it(store):
    first = publish(store, notes=("assumed something",), origin="trained")
    again = card(source=first.source.model_copy(update={"bytes": 7}))
    assert find_identical(store, again) == first


def test_the_newest_of_several_is_found_also_behind_another(store):
    publish(store)
    second = publish(store)
    publish(store, model=b"another")
    assert find_identical(store, card(source=second.source)) == second


@pytest.mark.parametrize(
    "change",
    [
        {"labels": LABELS[::-1]},
        {"input": INPUT.model_copy(update={"resize": "load_img"})},
        {"input": INPUT.model_copy(update={"preprocessing": PREPROCESSING["caffe"]})},
        {"input": INPUT.model_copy(update={"exif": "ignored"})},
        {"input": INPUT.model_copy(update={"height": 9})},
        {"source": source("1" * 64)},
        {"precision": "bf16"},
        {"head_weights": "int8"},
        {"quantization": quantization()},
        {"head": "flatten"},
    ],
    ids=str,
)
def test_what_differs_is_not_identical(store, change):
    first = publish(store)
    assert find_identical(store, card(**{"source": first.source} | change)) is None


def test_a_damaged_version_holds_nothing(store):
    first = publish(store)
    again = card(source=first.source)
    (store.folder("gap", 1) / MODEL).write_bytes(b"damaged")
    assert find_identical(store, again) is None
    (store.folder("gap", 1) / CARD).write_text("{")
    assert find_identical(store, again) is None


def test_an_empty_store_holds_nothing(store):
    assert find_identical(store, card()) is None
