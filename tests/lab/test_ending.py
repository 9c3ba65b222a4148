"""What a model ends in, by its last activation and by the loss that its file names."""

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from keras_models import chained, pixels, processed, small_backbone

from service.errors import CommandError
from service.lab.models.importing import ImportOptions, import_model
from service.lab.models.recompile import recompile
from service.lab.models.structure.ending import output_of
from service.store.layout import Store

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


def ending_in(units: int, loss: object, activation: str | None = None) -> keras.Model:
    """The small backbone, GAP and a dense layer, compiled as a script does."""
    base = small_backbone()
    layers = (L.GlobalAveragePooling2D(), L.Dense(units, activation))
    model = keras.Model(base.inputs[0], chained(base.output, *layers))
    model.compile("sgd", loss)
    return model


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store", tmp_path / "cache")
    made.root.mkdir()
    return made


@pytest.fixture
def options(tmp_path):
    (tmp_path / "labels.txt").write_text("no\nyes\n")
    return ImportOptions("ripe", tmp_path / "labels.txt")


def saved(model: keras.Model, folder: Path, kind: str) -> Path:
    path = folder / f"model.{kind}"
    model.save(path)
    return path


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_one_logit_is_two_classes_by_a_sigmoid(kind, store, options, answer, tmp_path):
    """As the transfer learning guide of keras.io has it."""
    keras.utils.set_random_seed(3)
    model = ending_in(1, keras.losses.BinaryCrossentropy(from_logits=True))
    card = import_model(store, saved(model, tmp_path, kind), options)
    assert (card.output.activation, card.output.to_probabilities) == ("linear", "sigmoid")
    told = "one logit, as its compiled loss says (from_logits); a sigmoid is added, taken as the "
    assert f"{told}probability of 'yes'" in " ".join(card.notes)

    given = pixels(8, seed=2)
    logits = model(processed(given.astype("float32"), "caffe"), training=False).numpy()
    ripe = 1 / (1 + np.exp(-logits.astype("float64")))
    assert ripe.std() > 0.01
    shutil.rmtree(store.root / ".compiled")  # The loss is read again where files must be derived again.
    for engine in ("openvino", "keras"):
        recompile(store, "ripe", 1, engine)
        for answers in answer(store, card, engine, given, (1, 8)).values():
            np.testing.assert_allclose(answers, np.hstack([1 - ripe, ripe]), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("units", "loss", "told"),
    [
        (1, "mse", "is a regression: its loss is mse"),
        (2, keras.losses.Huber(), "is a regression: its loss is Huber"),
        (1, "binary_crossentropy", "does not say from_logits"),
        (1, None, "does not say from_logits"),
        (2, keras.losses.BinaryCrossentropy(from_logits=True), "multi-label"),
    ],
)
def test_the_loss_in_the_file_decides(units, loss, told, store, options, tmp_path):
    with pytest.raises(CommandError, match=told):
        import_model(store, saved(ending_in(units, loss), tmp_path, "keras"), options)
    assert not any(store.root.iterdir())
