"""Equal backbones have one digest, however they were saved; others have others."""

import keras
import numpy as np
import pytest
from keras_models import SIDE, backbone, chained, save, small_backbone

from service.lab.models.compile import digest_of, to_openvino
from service.lab.models.reading import load_model
from service.lab.models.split import split
from service.store.card import PREPROCESSING

L = keras.layers


def digest(model, size=SIDE, preprocessing=None):
    return digest_of(to_openvino(split(model, (size, size), preprocessing).backbone))


def with_head(base, inputs=None, pooling=L.GlobalAveragePooling2D):
    """Flat when no inputs are given, else with the base as a nested model."""
    features = base.output if inputs is None else base(inputs)
    return keras.Model(
        base.inputs[0] if inputs is None else inputs,
        chained(features, pooling(), L.Dense(5, activation="softmax")),
    )


def renamed(base):
    """The same layers and weights under names that no other model has."""
    twin = keras.models.clone_model(base)
    twin.set_weights(base.get_weights())
    for number, layer in enumerate(twin.layers):
        layer.name = f"mine_{number}"
    return twin


def flexible(base):
    twin = keras.models.clone_model(base, input_tensors=keras.Input((None, None, 3)))
    twin.set_weights(base.get_weights())
    return twin


def test_flat_nested_and_renamed_resnet50s_with_equal_weights_have_one_digest(tmp_path):
    flat = with_head(backbone())
    other = renamed(backbone())
    assert {layer.name for layer in flat.layers}.isdisjoint(layer.name for layer in other.layers)
    nested = with_head(other, keras.Input((SIDE, SIDE, 3)), L.Flatten)
    assert digest(flat) == digest(load_model(save(nested, tmp_path)))


@pytest.fixture(scope="module")
def plain():
    return digest(with_head(small_backbone()))


def test_a_digest_is_a_sha256(plain):
    assert len(bytes.fromhex(plain)) == 32


def test_saving_and_loading_keeps_the_digest(plain, tmp_path):
    model = with_head(small_backbone())
    for turn in range(2):
        model = load_model(save(model, tmp_path, f"turn{turn}"))
    assert digest(model) == plain


def test_the_head_does_not_count(plain):
    assert digest(with_head(small_backbone(), pooling=L.Flatten)) == plain


def test_a_window_before_flatten_and_its_batch_norm_belong_to_the_head(plain):
    base = small_backbone()
    tail = (L.AveragePooling2D(2), L.BatchNormalization(), L.Flatten(), L.Dense(5))
    assert digest(keras.Model(base.inputs[0], chained(base.output, *tail))) == plain


def test_augmentation_does_not_count(plain):
    inputs = keras.Input((SIDE, SIDE, 3))
    turned = L.RandomRotation(0.1)(L.RandomFlip()(L.MixUp()(inputs)))
    assert digest(keras.Model(inputs, with_head(small_backbone())(turned))) == plain


def test_a_model_for_any_size_has_the_digest_of_its_size(plain):
    assert digest(with_head(flexible(small_backbone()))) == plain


def test_another_input_size_is_another_digest(plain):
    assert digest(with_head(flexible(small_backbone())), size=96) != plain


@pytest.mark.parametrize("name", ["tf", "torch", "unit", "none"])
def test_another_preprocessing_is_another_digest(plain, name):
    assert digest(with_head(small_backbone()), preprocessing=PREPROCESSING[name]) != plain


@pytest.mark.parametrize("which", range(14))
def test_any_changed_weight_is_another_digest(plain, which):
    twin = keras.models.clone_model(small_backbone())
    weights = [weight.copy() for weight in small_backbone().get_weights()]
    weights[which].flat[-1] += 1e-3
    twin.set_weights(weights)
    assert len(weights) == 14
    assert digest(with_head(twin)) != plain


def test_weights_that_change_places_are_another_digest(plain):
    twin = keras.models.clone_model(small_backbone())
    twin.set_weights(small_backbone().get_weights())
    norms = [layer for layer in twin.layers if isinstance(layer, L.BatchNormalization)]
    kernel = twin.layers[1].get_weights()[0]
    twin.layers[1].set_weights([kernel[..., ::-1], twin.layers[1].get_weights()[1][::-1]])
    norms[0].set_weights([values[::-1] for values in norms[0].get_weights()])
    assert digest(with_head(twin)) != plain


def counted(shape):
    """Weights that are the same wherever they are made: -1, -0.9, ... 1, and again."""
    return (np.arange(np.prod(shape)) % 21 / 10 - 1).astype("float32").reshape(shape)


def test_digests_are_those_of_the_stores_that_were_written_before():
    """Else heads published now would not share with heads published then."""
    inputs = keras.Input((SIDE, SIDE, 3))
    features = chained(inputs, L.Conv2D(4, 3, 2, "same"), L.BatchNormalization(), L.ReLU())
    model = keras.Model(inputs, chained(features, L.Flatten(), L.Dense(5, activation="softmax")))
    for layer in (model.layers[1], model.layers[-1]):
        layer.set_weights([counted(weight.shape) for weight in layer.get_weights()])
    cut = split(model, (SIDE, SIDE), None)
    assert [digest_of(to_openvino(part)) for part in (cut.backbone, cut.head)] == [
        "e367e32fcee4278a57d43057d2c525a22cea301ac714b9812c2a4bcca00f019a",  # pragma: allowlist secret
        "dcb75c85f871c6ccaae3d6ef7d5cf28cc7dae9e98045174420711ce5b8987808",  # pragma: allowlist secret
    ]
