"""Where the backbone of a training is from: whatever head it had, and as its head was preprocessed."""

import keras
import pytest
from keras_models import SIDE, chained, save, small_backbone

from service.lab.backbones.sources import source
from service.lab.models.importing import ImportOptions, import_model
from service.store.card import PREPROCESSING, Input
from service.store.layout import Store

L = keras.layers


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store", tmp_path / "cache")
    made.root.mkdir()
    return made


def compiled(units: int, loss: object) -> keras.Model:
    base = small_backbone()
    model = keras.Model(base.inputs[0], chained(base.output, L.GlobalAveragePooling2D(), L.Dense(units)))
    model.compile("sgd", loss)
    return model


def test_a_head_gives_its_backbone_with_the_preprocessing_of_its_card(store, tmp_path):
    (tmp_path / "labels.txt").write_text("no\nyes")
    model = compiled(1, keras.losses.BinaryCrossentropy(from_logits=True))
    wishes = ImportOptions("logit", tmp_path / "labels.txt", preprocessing=PREPROCESSING["unit"])
    card = import_model(store, save(model, tmp_path), wishes)
    found = source("logit", store, card.input, ())
    assert found.known.preprocessing == PREPROCESSING["unit"]
    assert found.known.digest == card.backbone.digest
    assert found.known.feature_shape == (8, 8, 32)


def test_the_backbone_of_a_regression_can_be_trained_on(store, tmp_path):
    file = save(compiled(4, "mse"), tmp_path)
    spec = {"height": SIDE, "width": SIDE, "decode": "exact", "resize": "bilinear"}
    found = source(str(file), store, Input(**spec, preprocessing=PREPROCESSING["none"]), ())
    assert found.cut.backbone_parameters == small_backbone().count_params()
    assert found.known.preprocessing == PREPROCESSING["caffe"]
