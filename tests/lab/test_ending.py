"""What a model ends in, by its last activation and by the loss that its file names."""

import keras
import numpy as np
import pytest
from keras_models import SIDE, chained, pixels, processed, save, small_backbone

from service.errors import CommandError
from service.lab.models.opening import KerasSource
from service.lab.models.publishing import Description, publish
from service.lab.models.reading import Loaded, load_model
from service.lab.models.structure.ending import output_of
from service.store.layout import MODEL, Store

L = keras.layers
TOLERANCE = 1e-4


@pytest.mark.parametrize(
    ("activation", "units", "loss", "is_from_logits", "to_probabilities"),
    [
        ("softmax", 5, None, False, "identity"),
        ("softmax", 2, "binary_crossentropy", False, "identity"),
        ("softmax", 5, "mse", False, "identity"),
        ("softmax", 5, "SparseCategoricalCrossentropy", True, "identity"),
        ("linear", 5, None, False, "softmax"),
        ("linear", 5, "SparseCategoricalCrossentropy", True, "softmax"),
        ("linear", 5, "sparse_categorical_crossentropy", False, "softmax"),
        ("sigmoid", 1, None, False, "complement"),
        ("sigmoid", 1, "binary_crossentropy", False, "complement"),
        ("linear", 1, "BinaryCrossentropy", True, "sigmoid"),
        ("linear", 1, "BinaryFocalCrossentropy", True, "sigmoid"),
    ],
)
def test_a_classifier_is_taken(activation, units, loss, is_from_logits, to_probabilities):
    output = output_of(activation, units, loss, is_from_logits)
    assert (output.activation, output.to_probabilities) == (activation, to_probabilities)
    assert output.is_one_unit == (units == 1)


@pytest.mark.parametrize("loss", ["mse", "MeanSquaredError", "mean_absolute_error", "Huber", "log_cosh"])
@pytest.mark.parametrize("units", [1, 4])
def test_a_regression_is_refused_and_told_why(loss, units):
    with pytest.raises(
        CommandError, match=f"is a regression: its loss is {loss}.*train it with classes"
    ):
        output_of("linear", units, loss)


@pytest.mark.parametrize(
    ("activation", "units", "loss", "is_from_logits", "told"),
    [
        ("linear", 1, None, False, "one linear unit, and its compiled loss does not say from_logits"),
        ("linear", 1, "binary_crossentropy", False, "does not say from_logits"),
        ("linear", 1, "CategoricalCrossentropy", True, "one linear unit"),
        ("softmax", 1, None, False, "one softmax unit; one unit must be a sigmoid"),
        ("tanh", 1, "hinge", False, "one tanh unit"),
        ("sigmoid", 5, "binary_crossentropy", False, r"multi-label \(several sigmoids\)"),
        ("linear", 5, "BinaryCrossentropy", True, r"multi-label \(its loss is BinaryCrossentropy\)"),
        ("relu", 5, None, False, "ends in 'relu'; softmax, logits or one sigmoid are needed"),
        ("log_softmax", 5, None, False, "ends in 'log_softmax'"),
    ],
)
def test_what_is_no_choice_of_one_class_is_refused(activation, units, loss, is_from_logits, told):
    with pytest.raises(CommandError, match=told) as caught:
        output_of(activation, units, loss, is_from_logits)
    assert len(str(caught.value)) <= 300


def one_logit() -> keras.Model:
    base = small_backbone()
    return keras.Model(base.inputs[0], chained(base.output, L.GlobalAveragePooling2D(), L.Dense(1)))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A model of one logit as the transfer learning guide of keras.io has it, and its store."""
    folder = tmp_path_factory.mktemp("logit")
    keras.utils.set_random_seed(3)
    file = save(one_logit(), folder)
    store = Store(folder / "store", folder / "cache")
    store.root.mkdir()
    source = KerasSource("keras", {MODEL: file}, Loaded(load_model(file), "BinaryCrossentropy", True))
    return (
        store,
        publish(store, source, Description("ripe", ("no", "yes"), (SIDE, SIDE), "imported")),
        file,
    )


def test_one_logit_is_two_classes_by_a_sigmoid(published, answer):
    store, card, file = published
    given = pixels(8, seed=2)
    logits = keras.models.load_model(file)(processed(given.astype("float32"), "caffe"), training=False)
    ripe = 1 / (1 + np.exp(-logits.numpy().astype("float64")))
    assert ripe.std() > 0.01
    assert (card.output.activation, card.output.to_probabilities) == ("linear", "sigmoid")
    for answers in answer(store, card, "openvino", given, (1, 8)).values():
        np.testing.assert_allclose(answers, np.hstack([1 - ripe, ripe]), rtol=0, atol=TOLERANCE)


def test_without_what_the_file_says_of_its_loss_one_logit_is_out(published):
    """The file is asked again where a network must be derived from it."""
    _, _, file = published
    source = KerasSource("keras", {MODEL: file}, Loaded(load_model(file)))
    with pytest.raises(CommandError, match="does not say from_logits"):
        source.cut((SIDE, SIDE), None)
