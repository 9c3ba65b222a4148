"""The offline demo says what it is, and what its card claims is true of pictures it has not seen."""

from pathlib import Path

import keras
import numpy as np
import pytest

from service.lab.backbones import demo
from service.serving.pixels import decode
from service.store.layout import MODEL

HEADS = ("gap", "flatten")
EXAMPLES = Path(__file__).parents[2] / "examples"
NEW_PER_CLASS = 3


@pytest.fixture(scope="module")
def cards(demo_store):
    return {head: demo_store.read_card(head, 1) for head in HEADS}


@pytest.fixture(scope="module")
def models(demo_store):
    return {
        head: keras.models.load_model(demo_store.folder(head, 1) / MODEL, compile=False)
        for head in HEADS
    }


@pytest.fixture(scope="module")
def new_classes():
    return np.tile(np.arange(len(demo.LABELS)), NEW_PER_CLASS)


@pytest.fixture(scope="module")
def guesses(models, new_classes):
    """By head, the answers of the saved models to pictures of another seed, all by Keras.

    The heads stand on one backbone: it runs once, as in service.
    """
    rng = np.random.default_rng(20_000)
    files = [demo.jpeg(demo.picture(demo.LABELS[index], rng)) for index in new_classes]
    given = np.stack([decode.decode(file, demo.INPUT, demo.SIDE**2) for file in files])
    return {head: answers.argmax(axis=1) for head, answers in by_keras(models, given).items()}


def by_keras(models, given, dtype="float32"):
    inputs = keras.applications.resnet50.preprocess_input(given.astype(dtype))
    backbone = keras.Model(models["gap"].inputs[0], models["gap"].get_layer("conv5_block3_out").output)
    features = backbone.predict(inputs, batch_size=4, verbose=0)
    answers = {}
    for head, model in models.items():
        tensor = features
        for layer in model.layers[model.layers.index(model.get_layer("conv5_block3_out")) + 1 :]:
            tensor = layer(tensor)
        answers[head] = keras.ops.convert_to_numpy(tensor)
    return answers


def share(guesses, truth, what):
    """How many are right: of the class, of its colour, or of its corner."""
    part = {
        "class": lambda index: index,
        "colour": lambda index: [demo.LABELS[i].split("-", 1)[0] for i in index],
        "corner": lambda index: [demo.LABELS[i].split("-", 1)[1] for i in index],
    }[what]
    return np.mean(np.array(part(guesses)) == np.array(part(truth)))


@pytest.fixture(scope="module")
def undecided():
    """Pictures between two classes each: what rounds differently there shows in the probabilities."""
    rng = np.random.default_rng(4)
    pairs = [rng.choice(demo.LABELS, 2, replace=False) for _ in range(16)]
    both = [[np.asarray(demo.picture(label, rng), float) for label in pair] for pair in pairs]
    return np.mean(both, axis=1).astype("uint8")


def in_float64(model):
    """The model, which computes without float32's rounding."""
    twin = keras.models.clone_model(
        model,
        input_tensors=keras.Input(model.input_shape[1:], dtype="float64"),
        clone_function=lambda layer: type(layer).from_config(layer.get_config() | {"dtype": "float64"}),
    )
    twin.set_weights(model.get_weights())
    return twin


def test_openvino_and_keras_are_both_near_to_float64(demo_store, cards, models, undecided, answer):
    """So that they agree to 1e-4. Keras is given a batch: for one picture it rounds more coarsely."""
    twins = {head: in_float64(model) for head, model in models.items()}
    exact, rounded = by_keras(twins, undecided, "float64"), by_keras(models, undecided)
    for head in HEADS:
        assert np.mean(exact[head].max(axis=1) < 0.9) > 0.25, "some are undecided"
        by_openvino = answer(demo_store, cards[head], "openvino", undecided, (1, 8))
        for probabilities in (rounded[head], *by_openvino.values()):
            np.testing.assert_allclose(probabilities, exact[head], rtol=0, atol=5e-5)


def test_it_says_that_it_is_a_demo(cards):
    for card in cards.values():
        assert card.origin == "demo"
        assert card.labels == demo.LABELS
        assert "red-top-left" in card.labels
        assert len(card.labels) == 16
        assert "untrained backbone" in " ".join(card.notes)


def test_its_input_is_that_of_the_service(cards):
    for card in cards.values():
        assert card.input == demo.INPUT
        assert (card.input.height, card.input.width) == (224, 224)


def test_both_heads_stand_on_one_backbone(cards):
    assert cards["gap"].backbone == cards["flatten"].backbone
    assert cards["gap"].backbone.feature_shape == (7, 7, 2048)


def test_one_dense_stays_one_dense(cards):
    gap, flatten = (cards[head].structure for head in HEADS)
    assert (gap.pooling, flatten.pooling) == HEADS
    assert gap.hidden_units == flatten.hidden_units == ()
    assert gap.parameters == 2048 * 16 + 16
    assert flatten.parameters == 100_352 * 16 + 16


def test_flatten_knows_colours_and_corners_and_gap_only_colours(cards):
    gap, flatten = (cards[head].training for head in HEADS)
    assert flatten.accuracy >= 0.9
    assert flatten.accuracy_by["colour"] >= 0.9
    assert flatten.accuracy_by["corner"] >= 0.95
    assert gap.accuracy_by["colour"] >= 0.9
    assert gap.accuracy_by["corner"] <= 0.45, "chance is 0.25"
    assert gap.accuracy <= 0.45


def test_its_record_says_how_it_was_made(cards):
    for card in cards.values():
        training = card.training
        assert training.images_train == 16 * demo.TRAIN_PER_CLASS
        assert training.images_test == 16 * demo.TEST_PER_CLASS
        assert training.seed == demo.SEED


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("what", ["class", "colour", "corner"])
def test_the_accuracy_in_the_card_is_true_of_new_pictures(cards, guesses, new_classes, head, what):
    training = cards[head].training
    claimed = training.accuracy if what == "class" else training.accuracy_by[what]
    measured = share(guesses[head], new_classes, what)
    # four standard errors of the difference of two samples, none taken as surer than 3 %
    spread = max(claimed * (1 - claimed), 0.03)
    error = np.sqrt(spread / training.images_test + spread / len(new_classes))
    assert abs(measured - claimed) <= 4 * error


def test_the_examples_are_answered_right_by_flatten(demo_store, cards, answer):
    files = sorted(EXAMPLES.glob("*.jpg"))
    assert len(files) >= 4
    card = cards["flatten"]
    given = np.stack([decode.decode(file.read_bytes(), card.input, 10**7) for file in files])
    answers = answer(demo_store, card, "openvino", given, (1,))[1]
    assert [card.labels[index] for index in answers.argmax(axis=1)] == [file.stem for file in files]
    assert answers.max(axis=1).min() > 0.5


def test_the_residual_branches_are_damped(models):
    last = [layer for layer in models["gap"].layers if layer.name.endswith("_3_bn")]
    others = [
        layer
        for layer in models["gap"].layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer not in last
    ]
    assert len(last) == 16
    assert len(others) == 37
    for layer in last:
        np.testing.assert_allclose(layer.gamma.numpy(), 0.1)
    for layer in others:
        np.testing.assert_allclose(layer.gamma.numpy(), 1)


def test_the_batch_norms_are_calibrated_on_pictures(models):
    """Freshly made ones say mean 0 and variance 1; these say what flows through them."""
    norms = [x for x in models["gap"].layers if isinstance(x, keras.layers.BatchNormalization)]
    for layer in norms:
        assert np.abs(layer.moving_variance.numpy() - 1).max() > 0.05
        assert np.abs(layer.moving_mean.numpy()).max() > 0.001
    rng = np.random.default_rng(3)
    files = [demo.jpeg(demo.picture(demo.LABELS[index], rng)) for index in range(4)]
    given = np.stack([decode.decode(file, demo.INPUT, demo.SIDE**2) for file in files])
    after = keras.Model(models["gap"].inputs[0], models["gap"].get_layer("conv3_block1_1_bn").output)
    values = after(keras.applications.resnet50.preprocess_input(given.astype("float32"))).numpy()
    assert 0.5 < values.std() < 2
    assert abs(values.mean()) < 0.5


def test_a_picture_is_the_same_for_the_same_seed_only():
    one, same, other = (
        np.asarray(demo.picture("blue-top-right", np.random.default_rng(seed))) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).mean() > 0.5


@pytest.mark.parametrize("label", demo.LABELS)
def test_a_picture_shows_its_label(label):
    colour, corner = label.split("-", 1)
    pixels = np.asarray(demo.picture(label, np.random.default_rng(5)), dtype=float)
    rows, columns = np.nonzero(np.abs(pixels - demo.COLOURS[colour]).max(axis=2) <= 26)
    assert ("top" in corner) == (np.median(rows) < demo.SIDE / 2)
    assert ("left" in corner) == (np.median(columns) < demo.SIDE / 2)
