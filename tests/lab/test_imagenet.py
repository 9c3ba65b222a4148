"""Keras' own ResNet50 as two heads: GAP is a Flatten with tied weights, at its real size."""

import h5py
import keras
import numpy as np
import pytest
from keras_models import pixels

from service.errors import CommandError
from service.lab.backbones import imagenet
from service.store.layout import MODEL

pytestmark = pytest.mark.slow

CLASSES = 1000
HEADS = ("gap", "flatten")
ADDED_UP = 4e-6


@pytest.fixture(scope="module")
def cards(imagenet_store):
    return {head: imagenet_store.read_card(head, 1) for head in HEADS}


@pytest.fixture(scope="module")
def pictures():
    return pixels(8, seed=4, side=224)


@pytest.fixture(scope="module")
def by_keras(imagenet_store, pictures):
    """By head, the probabilities of the whole saved models."""
    inputs = keras.applications.resnet50.preprocess_input(pictures.astype("float32"))
    models = {
        head: keras.models.load_model(imagenet_store.folder(head, 1) / MODEL, compile=False)
        for head in HEADS
    }
    return {head: model(inputs, training=False).numpy() for head, model in models.items()}


@pytest.fixture(scope="module")
def by_openvino(imagenet_store, cards, pictures, answer):
    """By head, the probabilities of the compiled files, one picture at a time and all at once."""
    return {head: answer(imagenet_store, cards[head], "openvino", pictures, (1, 8)) for head in HEADS}


def test_the_pictures_get_different_and_decided_answers(by_keras):
    assert len(set(by_keras["gap"].argmax(axis=1))) > 4
    assert 0.02 < by_keras["gap"].max() < 0.999


def test_flatten_with_untied_weights_computes_what_gap_computes(by_keras):
    """Up to the order in which 100,352 products are added in float32."""
    np.testing.assert_allclose(by_keras["flatten"], by_keras["gap"], rtol=0, atol=ADDED_UP)


@pytest.mark.parametrize("batch", [1, 8])
def test_and_so_it_does_in_openvino(by_openvino, by_keras, batch):
    gap, flatten = (by_openvino[head][batch] for head in HEADS)
    np.testing.assert_allclose(flatten, gap, rtol=0, atol=ADDED_UP)
    np.testing.assert_allclose(gap, by_keras["gap"], rtol=0, atol=1e-4)


def test_flatten_has_49_times_the_weights(cards):
    gap, flatten = (cards[head].structure for head in HEADS)
    assert gap.parameters == 2048 * CLASSES + CLASSES
    assert flatten.parameters == 100_352 * CLASSES + CLASSES
    assert (gap.weight_bytes, flatten.weight_bytes) == (4 * gap.parameters, 4 * flatten.parameters)
    assert (gap.pooling, flatten.pooling) == HEADS


def test_both_heads_stand_on_one_backbone_of_7x7x2048(cards):
    assert cards["gap"].backbone == cards["flatten"].backbone
    assert cards["gap"].backbone.feature_shape == (7, 7, 2048)
    assert cards["gap"].backbone.parameters == 23_587_712
    assert cards["gap"].input == cards["flatten"].input


def test_untied_divides_each_weight_by_the_positions():
    inputs = keras.Input((96, 64, 3))
    features = keras.layers.Conv2D(4, 32, strides=32, name="conv5_block3_out")(inputs)
    dense = keras.layers.Dense(5, activation="softmax")
    gap = keras.Model(inputs, dense(keras.layers.GlobalAveragePooling2D()(features)))
    kernel, bias = dense.get_weights()
    untied_kernel, untied_bias = imagenet.untied(gap).layers[-1].get_weights()
    np.testing.assert_allclose(untied_kernel.reshape(3, 2, 4, 5), np.tile(kernel / 6, (3, 2, 1, 1)))
    np.testing.assert_array_equal(untied_bias, bias)


def test_the_class_names_are_in_the_order_of_the_outputs():
    names = imagenet.labels()
    assert len(names) == CLASSES
    assert all(name and name == name.strip() for name in names)
    known = {0: "tench", 281: "tabby", 285: "Egyptian cat", 404: "airliner", 999: "toilet tissue"}
    assert {index: names[index] for index in known} == known


# weights files


def same(one: keras.Model, other: keras.Model) -> bool:
    return all(
        np.array_equal(mine, its)
        for mine, its in zip(one.get_weights(), other.get_weights(), strict=True)
    )


def test_a_full_weights_file_gives_the_model_those_weights(imagenet_weights, imagenet_model):
    assert same(imagenet.from_file(imagenet_weights), imagenet_model)


def test_so_does_the_older_format_that_keras_applications_offers(imagenet_model, tmp_path):
    path = tmp_path / "resnet50_weights_tf_dim_ordering_tf_kernels.h5"
    write_legacy(imagenet_model, path)
    assert same(imagenet.from_file(path), imagenet_model)


def write_legacy(model: keras.Model, path) -> None:
    """Keras 2's format, which Keras 3 reads and does not write: weights by layer, in order."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        file.attrs["keras_version"] = b"2.1.0"
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name, data=value)


def refusal(path) -> str:
    with pytest.raises(CommandError) as caught:
        imagenet.from_file(path)
    (sentence,) = str(caught.value).splitlines()
    return sentence


@pytest.mark.parametrize("part", ["full", "notop"])
@pytest.mark.parametrize("form", ["weights.h5", "h5"])
def test_any_weights_file_gives_a_backbone_of_any_size(imagenet_model, tmp_path, part, form):
    features = imagenet_model.get_layer("conv5_block3_out").output
    own = keras.Model(imagenet_model.inputs[0], features)
    saved = imagenet_model if part == "full" else own
    path = tmp_path / f"saved.{form}"
    if form == "h5":
        write_legacy(saved, path)
    else:
        saved.save_weights(path)
    bare = imagenet.backbone_from(path, (96, 64))
    assert bare.output_shape == (None, 3, 2, 2048)
    assert same(bare, own)


def test_a_notop_file_gets_a_sentence_that_names_train(imagenet_model, tmp_path):
    path = tmp_path / "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
    features = imagenet_model.get_layer("conv5_block3_out").output
    write_legacy(keras.Model(imagenet_model.inputs[0], features), path)
    sentence = refusal(path)
    assert "holds no classifier" in sentence
    assert "`resnet-heads train`" in sentence


@pytest.mark.parametrize("name", ["text.h5", "text.keras"])
def test_a_text_file_gets_a_sentence(tmp_path, name):
    (tmp_path / name).write_text("hello")
    assert refusal(tmp_path / name) == f"{name} does not hold the weights of Keras' ResNet50."


def test_the_weights_of_another_network_get_a_sentence(tmp_path):
    keras.utils.set_random_seed(1)
    other = keras.applications.MobileNet(weights=None, input_shape=(32, 32, 3), alpha=0.25)
    other.save_weights(tmp_path / "other.weights.h5")
    assert "does not hold the weights" in refusal(tmp_path / "other.weights.h5")


def test_an_unrelated_hdf5_file_gets_a_sentence(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["measurements"] = np.arange(9)
    assert "does not hold the weights" in refusal(tmp_path / "data.h5")


def test_a_missing_file_gets_a_sentence(tmp_path):
    assert "There is no weights file" in refusal(tmp_path / "nowhere.h5")


def test_a_folder_gets_a_sentence(tmp_path):
    assert "There is no weights file" in refusal(tmp_path)
