"""Evidence maps of heads of every kind, on both engines, against gradients by Keras."""

import keras_models

# isort: split

import keras
import numpy as np
import openvino as ov
import openvino.opset13 as opset
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import CannotExplain
from service.lab.models.compile import to_openvino
from service.lab.models.split import split
from service.lab.precision.int8 import with_int8_weights
from service.serving.batcher import Trace
from service.serving.engines.keras import KerasEngine
from service.serving.engines.openvino import Int8Head, OpenVinoEngine, OpenVinoHead
from service.serving.explain.evidence import evidence_of
from service.store.card import Output

L = keras.layers
SHAPE = (5, 4, 6)
CLASSES = 3
SOFTMAX = Output(activation="softmax", to_probabilities="identity")
ENGINES = ("openvino", "keras")
CLOSE = 1e-4
BIASES = ("bias", "beta", "moving_mean")
SCALES = ("gamma", "moving_variance")

POOLINGS = {
    "gap": [L.GlobalAveragePooling2D],
    "gmp": [L.GlobalMaxPooling2D],
    "flatten": [L.Flatten],
    "average 1": [lambda: L.AveragePooling2D(1, 1), L.Flatten],
    "average 2 stride 1": [lambda: L.AveragePooling2D(2, 1), L.Flatten],
    "average 2x3 stride 2 same": [lambda: L.AveragePooling2D((2, 3), 2, "same"), L.Flatten],
    "average 3 same, then gap": [lambda: L.AveragePooling2D(3, 2, "same"), L.GlobalAveragePooling2D],
    "max 2 stride 1": [lambda: L.MaxPooling2D(2, 1), L.Flatten],
    "max 4 stride 3 same": [lambda: L.MaxPooling2D(4, 3, "same"), L.Flatten],
    "normalized, then max": [L.BatchNormalization, lambda: L.MaxPooling2D(3, 1), L.Flatten],
}
HIDDEN = {
    "relu": [lambda: L.Dense(7, "relu")],
    "linear, no bias": [lambda: L.Dense(5, use_bias=False)],
    "leaky function": [lambda: L.Dense(6, "leaky_relu")],
    "leaky layer": [lambda: L.Dense(4), lambda: L.LeakyReLU(0.1)],
    "leaky layer as activation": [lambda: L.Dense(4, activation=L.LeakyReLU(0.1))],
    "parametric": [lambda: L.Dense(6), lambda: L.PReLU(alpha_initializer="normal")],
    "normalized": [lambda: L.Dense(5, use_bias=False), L.BatchNormalization, L.ReLU],
    "normalized, plain": [lambda: L.BatchNormalization(scale=False, center=False)],
    "dropped": [lambda: L.Dropout(0.5), lambda: L.GaussianNoise(0.1)],
    "activation layer": [lambda: L.Dense(9), lambda: L.Activation("relu")],
}


def joined(join, *branches, ending=lambda: L.Dense(CLASSES)):
    """Branches of layers on one map, joined, and then the ending."""

    def made(x):
        tensors = [keras_models.chained(x, *(make() for make in branch)) for branch in branches]
        return ending()(join()(tensors))

    return made


def residual(x):
    """Two blocks, each of which adds a branch to what went into it."""
    x = L.Dense(6)(L.GlobalAveragePooling2D()(x))
    for _ in range(2):
        x = L.Add()([x, L.Dense(6)(L.Dense(4, "relu")(x))])
    return L.Dense(CLASSES)(x)


def crossing(x):
    """Each layer takes the outputs of all before it: no branch can be told from the others."""
    found = [L.GlobalMaxPooling2D()(x)]
    for _ in range(3):
        found.append(L.Dense(5, "relu")(L.Concatenate()(found) if len(found) > 1 else found[0]))
    return L.Dense(CLASSES)(L.Concatenate()(found))


GAP, GMP = [L.GlobalAveragePooling2D], [L.GlobalMaxPooling2D]
FORKS = {
    "gap and gmp": joined(L.Concatenate, GAP, GMP),
    "gap and flatten, hidden": joined(L.Concatenate, [*GAP, lambda: L.Dense(5, "relu")], [L.Flatten]),
    "windows": joined(L.Concatenate, [lambda: L.MaxPooling2D(2, 1), L.Flatten], GAP, GMP),
    "on the map's rank": joined(
        L.Concatenate,
        [lambda: L.GlobalAveragePooling2D(keepdims=True)],
        [lambda: L.GlobalMaxPooling2D(keepdims=True)],
        ending=lambda: keras.Sequential([L.Flatten(), L.Dense(CLASSES)]),
    ),
    "logits added": joined(
        L.Add, [*GAP, lambda: L.Dense(CLASSES)], [L.Flatten, lambda: L.Dense(CLASSES)], ending=L.Identity
    ),
    "logits averaged": joined(
        L.Average,
        *([*pool, lambda: L.Dense(CLASSES, "relu")] for pool in (GAP, GMP, [L.Flatten])),
        ending=lambda: L.Rescaling(2),
    ),
    "the same twice": joined(L.Concatenate, GAP, GAP),
    "residual": residual,
    "crossing": crossing,
}


def convolved(x):
    """As in the top of MobileNet: a convolution where one position is left."""
    x = L.GlobalAveragePooling2D(keepdims=True)(x)
    x = L.Conv2D(7, 1, activation="relu")(L.Dropout(0.1)(x))
    return L.Reshape((CLASSES,))(L.Conv2D(CLASSES, 1, padding="same")(x))


OTHERS = {
    "convolved": convolved,
    "reshaped": lambda x: L.Dense(CLASSES)(L.Flatten()(L.Reshape((2, 3, 1))(L.GlobalMaxPooling2D()(x)))),
}


def stacked(*names):
    """The layers of these names, one after the other, and a dense one."""
    layers = [make for name in names for make in (POOLINGS | HIDDEN)[name]]
    return lambda x: L.Dense(CLASSES)(keras.Sequential([make() for make in layers])(x))


class Head:
    """A head with weights from a seed, and the same without its softmax."""

    def __init__(self, logits, seed):
        keras.utils.set_random_seed(seed)
        x = keras.Input(SHAPE)
        self.logits = keras.Model(x, logits(x))
        rng = np.random.default_rng(seed)
        for weights in self.logits.variables:
            if weights.name in BIASES:
                weights.assign(rng.normal(size=weights.shape))
            elif weights.name in SCALES:
                weights.assign(rng.uniform(0.5, 1.5, weights.shape))
        features = self.logits.inputs[0]
        self.model = keras.Model(features, L.Softmax()(self.logits.outputs[0]))

    def opened(self, engine, folder):
        return opened(self.model, engine, folder)

    def by_gradients(self, features, index):
        """The map and its constant: gradients times features, and times what Keras calls biases."""
        batch = tf.constant(features[np.newaxis])
        biases = [v for v in self.logits.variables if v.name in BIASES]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([batch, *(bias.value for bias in biases)])
            logit = self.logits(batch, training=False)[0, index]
        grid, *slopes = tape.gradient(logit, [batch, *(bias.value for bias in biases)])
        constant = sum(np.sum(slope * bias) for slope, bias in zip(slopes, biases, strict=True))
        return (grid[0] * features).numpy().sum(axis=-1), float(constant), float(logit)


def opened(model, engine, folder):
    """A head's network on an engine, by way of its compiled files."""
    if engine == "keras":
        model.save(folder / "network.keras")
        return KerasEngine(1).open_head(folder)
    ov.save_model(to_openvino(model), folder / "network.xml", compress_to_fp16=False)
    return OpenVinoEngine(1).open_head(folder)


def features(seed):
    """As a backbone's last ReLU leaves them: many are zero."""
    return np.maximum(np.random.default_rng(seed).normal(size=SHAPE), 0).astype(np.float32)


def traced(network, *maps):
    """A trace of each map, all computed in one batch."""
    network(np.stack(maps))
    pixels = np.zeros((8, 8, 3), np.uint8)
    return [Trace(pixels, one, row.copy()) for one, row in zip(maps, network.logits(), strict=True)]


def check_adds_up(evidence):
    missing = evidence.grid.sum() + evidence.constant - evidence.logit
    assert abs(missing) <= CLOSE * max(1, abs(evidence.logit))


def check(head, network, one, index):
    """Against Keras: the grid, the constant and the logit, each."""
    evidence = evidence_of(network.layers, one, SOFTMAX, index)
    grid, constant, logit = head.by_gradients(one.features, index)
    check_adds_up(evidence)
    np.testing.assert_allclose(evidence.grid, grid, rtol=CLOSE, atol=CLOSE)
    assert evidence.constant == pytest.approx(constant, rel=CLOSE, abs=CLOSE)
    assert evidence.logit == pytest.approx(logit, rel=CLOSE, abs=CLOSE)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    pooling=st.sampled_from(sorted(POOLINGS)),
    hidden=st.lists(st.sampled_from(sorted(HIDDEN)), max_size=3),
    engine=st.sampled_from(ENGINES),
    seed=st.integers(0, 2**31 - 1),
    index=st.integers(0, CLASSES - 1),
)
def test_the_map_of_any_head_is_keras_gradient_times_input(
    pooling, hidden, engine, seed, index, tmp_path_factory
):
    head = Head(stacked(pooling, *hidden), seed)
    network = head.opened(engine, tmp_path_factory.mktemp("head"))
    for one in traced(network, features(seed), features(seed + 1)):
        check(head, network, one, index)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", [*POOLINGS, *HIDDEN])
def test_each_pooling_and_each_layer_is_explained(kind, engine, tmp_path):
    head = Head(stacked(kind) if kind in POOLINGS else stacked("gap", kind), seed=3)
    network = head.opened(engine, tmp_path)
    check(head, network, traced(network, features(5))[0], 1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", FORKS | OTHERS)
def test_a_head_that_forks_and_joins_is_explained(kind, engine, tmp_path):
    head = Head((FORKS | OTHERS)[kind], seed=4)
    network = head.opened(engine, tmp_path)
    for one in traced(network, features(6), features(7)):
        check(head, network, one, 2)


@pytest.mark.parametrize("kind", HIDDEN)
@pytest.mark.parametrize("pooling", ["flatten", "max 4 stride 3 same", "normalized, then max"])
def test_the_layers_of_openvino_and_the_gradients_of_keras_make_the_same_map(pooling, kind, tmp_path):
    head, maps = Head(stacked(pooling, kind), seed=8), []
    for engine in ENGINES:
        (tmp_path / engine).mkdir()
        network = head.opened(engine, tmp_path / engine)
        maps.append(evidence_of(network.layers, traced(network, features(9))[0], SOFTMAX, 2))
    np.testing.assert_allclose(maps[0].grid, maps[1].grid, rtol=CLOSE, atol=CLOSE)
    assert maps[0].constant == pytest.approx(maps[1].constant, rel=CLOSE, abs=CLOSE)


def multiplied(graph):
    """The same graph with each of its int8 weights multiplied by its scale, in float32."""
    for node in graph.get_ops():
        if node.get_type_name() == "Constant" and node.get_element_type() == ov.Type.i8:
            (converted,) = node.output(0).get_target_inputs()
            (product,) = converted.get_node().output(0).get_target_inputs()
            scale = product.get_node().input_value(1).get_node().data.astype(np.float32)
            used = product.get_node().output(0)
            (after,) = used.get_target_inputs()
            if after.get_node().get_type_name() == "Convert":
                used = after.get_node().output(0)
            weights = opset.constant(node.data * scale).output(0)
            for user in used.get_target_inputs():
                user.replace_source_output(weights)
    return graph


@pytest.mark.parametrize("kind", [*POOLINGS, *HIDDEN, *FORKS, *OTHERS])
def test_the_map_of_int8_weights_is_that_of_the_same_weights_in_float32(kind, tmp_path):
    others = FORKS | OTHERS
    made = others[kind] if kind in others else stacked(*(["gap"] if kind in HIDDEN else []), kind)
    head, maps = Head(made, seed=8), []
    graph = with_int8_weights(to_openvino(head.model))
    ov.save_model(graph, tmp_path / "network.xml", compress_to_fp16=False)
    (tmp_path / "multiplied").mkdir()
    same = multiplied(ov.Core().read_model(tmp_path / "network.xml"))
    ov.save_model(same, tmp_path / "multiplied" / "network.xml", compress_to_fp16=False)
    for folder, opened_as in ((tmp_path, Int8Head), (tmp_path / "multiplied", OpenVinoHead)):
        network = OpenVinoEngine(1).open_head(folder)
        assert type(network) is opened_as
        found = traced(network, *map(features, range(9)))  # more than are multiplied at a time
        maps.append([evidence_of(network.layers, one, SOFTMAX, 2) for one in found])
    for one, other in zip(*maps, strict=True):
        check_adds_up(one)
        np.testing.assert_allclose(one.grid, other.grid, rtol=CLOSE, atol=CLOSE)
        assert one.logit == pytest.approx(other.logit, rel=CLOSE, abs=CLOSE)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("pooling", "firsts"),
    [("gmp", [(0, 0)]), ("max 4 stride 3 same", [(0, 0), (0, 2), (2, 0), (2, 2)])],
)
def test_of_equal_maxima_the_first_has_the_evidence(pooling, firsts, engine, tmp_path):
    network = Head(stacked(pooling), seed=2).opened(engine, tmp_path)
    evidence = evidence_of(network.layers, traced(network, np.ones(SHAPE, np.float32))[0], SOFTMAX, 0)
    assert [tuple(place) for place in np.argwhere(evidence.grid)] == firsts
    check_adds_up(evidence)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (lambda: L.Dense(4, "gelu"), "is not piecewise linear|joins 2 branches"),
        (lambda: L.Dense(4, "tanh"), "is not piecewise linear"),
        (L.ELU, "is not piecewise linear"),
        (lambda: L.ReLU(max_value=6), "not piecewise linear|maximum"),
        (lambda: L.Dense(4, "sigmoid"), "is not piecewise linear"),
        (lambda: L.Dense(4, "softmax"), "is not piecewise linear"),
    ],
)
def test_what_is_not_piecewise_linear_is_not_explained(layer, reason, engine, tmp_path):
    features = keras.Input(SHAPE)
    ending = (L.GlobalAveragePooling2D(), layer(), L.Dense(CLASSES, activation="softmax"))
    network = opened(keras.Model(features, keras_models.chained(features, *ending)), engine, tmp_path)
    with pytest.raises(CannotExplain, match=rf"^This head cannot be explained exactly: it.*({reason})"):
        _ = network.layers


def two_softmaxes(x):
    branches = [L.GlobalAveragePooling2D(), L.GlobalMaxPooling2D()]
    return L.Average()([L.Dense(CLASSES, activation="softmax")(pool(x)) for pool in branches])


def shared_softmax(x):
    softmax = L.Softmax()
    return L.Average()(
        [softmax(L.Dense(CLASSES)(x)) for x in (L.Flatten()(x), L.GlobalMaxPooling2D()(x))]
    )


def gated(x):
    x = L.GlobalAveragePooling2D()(x)
    gate = L.Multiply()([L.Dense(6)(x), L.Dense(6)(x)])
    return L.Dense(CLASSES, activation="softmax")(gate)


def largest(x):
    pooled = [L.GlobalAveragePooling2D()(x), L.GlobalMaxPooling2D()(x)]
    return L.Dense(CLASSES, activation="softmax")(L.Maximum()(pooled))


def broadcast(x):
    x = L.GlobalAveragePooling2D()(x)
    return L.Dense(CLASSES, activation="softmax")(L.Add()([x, L.Dense(1)(x)]))


def normalized(layer):
    return lambda x: L.Dense(CLASSES, activation="softmax")(layer()(L.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize(
    ("made", "reasons"),
    [
        (two_softmaxes, ("one softmax", "one softmax")),
        (shared_softmax, ("one softmax", "one softmax")),
        (gated, ("Multiply joins 2", "Multiply")),
        (largest, ("Maximum joins 2", "Maximum")),
        (broadcast, ("Add joins 2", None)),
        (normalized(L.LayerNormalization), ("joins 2 branches", "LayerNormalization")),
        (normalized(L.UnitNormalization), ("joins 2 branches", "UnitNormalization")),
    ],
)
def test_what_cannot_be_decomposed_is_said(made, reasons, tmp_path):
    x = keras.Input(SHAPE)
    model = keras.Model(x, made(x))
    for engine, reason in zip(ENGINES, reasons, strict=True):
        (tmp_path / engine).mkdir()
        network = opened(model, engine, tmp_path / engine)
        if reason is None:  # Gradients know more.
            (one,) = traced(network, features(1))
            check_adds_up(evidence_of(network.layers, one, SOFTMAX, 1))
            continue
        with pytest.raises(CannotExplain, match=reason):
            _ = network.layers


def test_a_head_that_forks_without_end_is_refused_before_it_is_read(tmp_path):
    """Joins that cross each other are read more than once: 2 to the power of 40 times here."""
    x = keras.Input(SHAPE)
    a, b = L.GlobalAveragePooling2D()(x), L.GlobalMaxPooling2D()(x)
    for _ in range(40):
        a, b = L.Add()([a, b]), L.Add()([a, L.Dense(6)(b)])
    model = keras.Model(x, L.Dense(CLASSES, activation="softmax")(L.Add()([a, b])))
    network = opened(model, "openvino", tmp_path)
    with pytest.raises(CannotExplain, match="forks and joins too often"):
        _ = network.layers


@pytest.mark.parametrize("engine", ENGINES)
def test_a_head_that_ends_in_no_softmax_is_not_explained(engine, tmp_path):
    features = keras.Input(SHAPE)
    network = opened(keras.Model(features, L.Dense(2)(L.Flatten()(features))), engine, tmp_path)
    assert network(np.zeros((2, *SHAPE), np.float32)).shape == (2, 2)
    with pytest.raises(CannotExplain, match="does not end in one softmax or one sigmoid"):
        _ = network.layers


ENDINGS = {
    "logits": lambda: [L.Dense(CLASSES, bias_initializer="normal")],
    "softmax inside": lambda: [L.Dense(CLASSES, activation="softmax", bias_initializer="normal")],
    "normalized logits": lambda: [L.Dense(CLASSES), L.BatchNormalization(), L.Activation("softmax")],
    "one sigmoid": lambda: [L.Dense(1, activation="sigmoid", bias_initializer="normal")],
    "sigmoid apart": lambda: [L.Dense(1, bias_initializer="normal"), L.Activation("sigmoid")],
    "one logit": lambda: [L.Dense(1, bias_initializer="normal")],
    "a convolution's softmax": lambda: [
        L.Reshape((1, 1, 8)),
        L.Conv2D(CLASSES, 1, activation="softmax", bias_initializer="normal"),
        L.Flatten(),
    ],
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("pooling", [L.GlobalAveragePooling2D, L.Flatten])
def test_heads_cut_from_saved_models_are_explained_however_they_end(pooling, ending, engine, tmp_path):
    base = keras_models.small_backbone()
    layers = (pooling(), L.Dense(8, "relu"), *ENDINGS[ending]())
    whole = keras.Model(base.inputs[0], keras_models.chained(base.output, *layers))
    loss = "BinaryCrossentropy" if ending == "one logit" else None
    size = (keras_models.SIDE, keras_models.SIDE)
    parts = split(whole, size, None, loss=loss, is_from_logits=True)
    features = parts.backbone(keras_models.pixels(1)).numpy()
    network = opened(parts.head, engine, tmp_path)
    probabilities = network(features)[0]
    (one,) = traced(network, features[0])
    maps = [evidence_of(network.layers, one, parts.output, index) for index in range(parts.classes)]
    for evidence in maps:
        assert evidence.grid.shape == features.shape[1:3]
        check_adds_up(evidence)
    odds = maps[0].logit if parts.output.is_one_unit else maps[0].logit - maps[1].logit
    assert odds == pytest.approx(np.log(probabilities[0] / probabilities[1]), abs=1e-3)


def test_a_sigmoid_speaks_for_one_class_as_it_speaks_against_the_other(tmp_path):
    features = keras.Input(SHAPE)
    head = keras.Model(features, L.Dense(1, activation="sigmoid")(L.Flatten()(features)))
    network = opened(head, "openvino", tmp_path)
    network(np.ones((1, *SHAPE), np.float32))
    one = Trace(np.zeros((8, 8, 3), np.uint8), np.ones(SHAPE, np.float32), network.logits()[0].copy())
    output = Output(activation="sigmoid", to_probabilities="complement")
    assert output.is_one_unit
    against, towards = (evidence_of(network.layers, one, output, index) for index in (0, 1))
    np.testing.assert_array_equal(against.grid, -towards.grid)
    assert against.logit == -towards.logit == -float(network.logits()[0, 0])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_logit_that_the_map_does_not_make_is_refused(engine, tmp_path):
    network = Head(stacked("gap"), seed=1).opened(engine, tmp_path)
    (one,) = traced(network, features(1))
    assert evidence_of(network.layers, one, SOFTMAX, 0)
    other = Trace(one.pixels, one.features, one.logits + 2e-4 * np.maximum(1, np.abs(one.logits)))
    with pytest.raises(CannotExplain, match="does not add up"):
        evidence_of(network.layers, other, SOFTMAX, 0)


def test_flatten_with_the_weights_of_gap_repeated_has_the_map_of_gap(tmp_path):
    """GAP is Flatten with tied weights: 20 positions here, each with a twentieth of the weights."""
    gap = Head(stacked("gap"), seed=4)
    flatten = Head(stacked("flatten"), seed=5)
    kernel, bias = gap.logits.layers[-1].get_weights()
    flatten.logits.layers[-1].set_weights([np.tile(kernel / 20, (20, 1)), bias])
    grids = []
    for name, head in (("gap", gap), ("flatten", flatten)):
        (tmp_path / name).mkdir()
        network = head.opened("openvino", tmp_path / name)
        (one,) = traced(network, features(6))
        grids.append(evidence_of(network.layers, one, SOFTMAX, 2).grid)
    by_hand = features(6) @ kernel[:, 2] / 20  # class activation mapping
    np.testing.assert_allclose(grids, [by_hand, by_hand], rtol=1e-4, atol=1e-6)
