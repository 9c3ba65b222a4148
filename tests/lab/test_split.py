"""Every shape of model that `import` takes, against the whole saved model run by Keras."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import keras_models
import numpy as np
import pytest
from keras_models import (
    CLASSES,
    SIDE,
    backbone,
    chained,
    pixels,
    processed,
    save,
    small_backbone,
    softmax,
)

from service.lab.models.importing import ImportOptions, import_model
from service.lab.models.reading import load_model
from service.lab.models.recompile import recompile
from service.lab.models.split import split
from service.store.card import PREPROCESSING, Card, Preprocessing
from service.store.layout import MODEL, Store

L = keras.layers
PICTURES = 8
RESNET50_PARAMETERS = 23_587_712  # keras.applications.ResNet50(include_top=False).count_params()


@dataclass(frozen=True)
class Shape:
    """A model in one of the shapes people save, and what its card must say."""

    build: Callable[[], keras.Model]
    pooling: str = "gap"
    filter: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    hidden_units: tuple[int, ...] = ()
    output: tuple[str, str] = ("softmax", "identity")
    preprocessing: str = "caffe"
    asked: str | None = None
    classes: int = CLASSES
    note: str = "assumed --preprocessing caffe"


def scores() -> L.Layer:
    return L.Dense(CLASSES)


def headed(*layers: Callable[[], L.Layer]) -> Callable[[], keras.Model]:
    """Builds the small backbone with these layers on top."""
    return lambda: keras_models.headed(*(layer() for layer in layers))


def fronted(
    *layers: Callable[[], object], mode: str = "caffe", dtype: str = "float32"
) -> Callable[[], keras.Model]:
    """These layers or functions, then a small backbone as a nested model, GAP and Dense.

    `mode` says what values the backbone is calibrated on.
    """

    def build() -> keras.Model:
        tensor = inputs = keras.Input((SIDE, SIDE, 3), dtype=dtype)
        for layer in layers:
            tensor = layer()(tensor)
        return keras.Model(inputs, gap_head(small_backbone(mode=mode)(tensor)))

    return build


def gap_head(features: keras.KerasTensor) -> keras.KerasTensor:
    return chained(features, L.GlobalAveragePooling2D(), softmax())


def preprocess(mode: str) -> Callable[[], object]:
    return lambda: lambda x: keras.applications.imagenet_utils.preprocess_input(x, mode=mode)


def shared_dense() -> keras.Model:
    base = small_backbone()
    twice = L.Dense(32, activation="tanh")
    tensor = chained(base.output, L.GlobalAveragePooling2D(), twice)
    return keras.Model(base.inputs[0], softmax()(twice(tensor)))


def repeated_names() -> keras.Model:
    """Names are unique in each model, but not in all of them: so they are after loading a backbone."""
    inner = keras.Sequential([keras.Input((SIDE, SIDE, 3)), L.RandomFlip(name="one"), small_backbone()])
    return keras.Sequential([inner, L.GlobalAveragePooling2D(name="one"), softmax()])


def dicts() -> keras.Model:
    base = small_backbone()
    inputs = keras.Input((SIDE, SIDE, 3), name="picture")
    return keras.Model({"picture": inputs}, {"scores": gap_head(base(inputs))})


def any_size() -> keras.Model:
    base = small_backbone()
    inputs = keras.Input((None, None, 3))
    flexible = keras.models.clone_model(base, input_tensors=keras.Input((None, None, 3)))
    flexible.set_weights(base.get_weights())
    return keras.Model(inputs, gap_head(flexible(inputs)))


def called_with(**options: bool) -> keras.Model:
    inputs = keras.Input((SIDE, SIDE, 3))
    return keras.Model(inputs, gap_head(small_backbone()(inputs, **options)))


def pooled_inside() -> keras.Model:
    base = small_backbone()
    nested = keras.Model(base.inputs[0], L.GlobalAveragePooling2D()(base.output))
    inputs = keras.Input((SIDE, SIDE, 3))
    return keras.Model(inputs, softmax()(nested(inputs)))


def head_as_a_model() -> keras.Model:
    head = keras.Sequential([keras.Input((8, 8, 32)), L.Flatten(), L.Dense(16, "relu"), softmax()])
    return keras.Sequential([small_backbone(), head])


def seen_elsewhere() -> keras.Model:
    """Its layers are part of another model too, so their last node is not the one to follow."""
    model = headed(L.GlobalAveragePooling2D, softmax)()
    keras.Model(model.inputs[0], model.layers[-1](L.Dense(32)(model.layers[-2].output)))
    return model


NUMBERS = Preprocessing(order="bgr", mean=(100, 110, 120), std=(50, 60, 70))
KNOWN = PREPROCESSING | {"numbers": NUMBERS}


def forked(
    join: L.Layer, *branches: tuple[L.Layer, ...], ending: tuple[L.Layer, ...] = ()
) -> keras.Model:
    """Branches of layers on the last map, joined, and then the ending."""
    base = small_backbone()
    joined = join([chained(base.output, *branch) for branch in branches])
    return keras.Model(base.inputs[0], chained(joined, *ending))


def gap_and_gmp() -> keras.Model:
    pooled = (L.GlobalAveragePooling2D(),), (L.GlobalMaxPooling2D(),)
    return forked(L.Concatenate(), *pooled, ending=(L.Dense(16, "relu"), softmax()))


def branches_of_windows() -> keras.Model:
    branches = (
        (L.AveragePooling2D(4), L.BatchNormalization(), L.Flatten(), L.Dense(12, "relu")),
        (L.GlobalMaxPooling2D(keepdims=True), L.Flatten()),
        (L.Flatten(), L.Dropout(0.2), L.Dense(8)),
    )
    return forked(L.Concatenate(), *branches, ending=(L.Dense(16, "tanh"), softmax()))


def logits_added() -> keras.Model:
    branches = (L.GlobalAveragePooling2D(), L.Dense(6, "relu"), scores()), (L.Flatten(), scores())
    return forked(L.Add(), *branches, ending=(L.Activation("softmax"),))


def answers_averaged() -> keras.Model:
    branches = (L.GlobalAveragePooling2D(), softmax()), (L.GlobalMaxPooling2D(), softmax())
    return forked(L.Average(), *branches)


def fork_before_the_last_relu() -> keras.Model:
    """The branches begin at different maps, but both are made of one."""
    base = small_backbone()
    added = base.layers[-1].input
    pooled = [L.GlobalAveragePooling2D()(added), L.GlobalMaxPooling2D()(L.ReLU()(added))]
    return keras.Model(base.inputs[0], softmax()(L.Concatenate()(pooled)))


def residual_head() -> keras.Model:
    base = small_backbone()
    x = L.LayerNormalization()(L.GlobalAveragePooling2D()(base.output))
    for _ in range(2):
        x = x + L.Dense(32)(L.Dense(8, "gelu")(x))
    return keras.Model(base.inputs[0], keras.ops.softmax(scores()(x) / 2))


def gated_head() -> keras.Model:
    """Squeeze and excitation of the pooled features."""
    base = small_backbone()
    x = L.GlobalAveragePooling2D()(base.output)
    gate = L.Dense(32, "sigmoid")(L.Dense(4, "relu")(x))
    return keras.Model(base.inputs[0], softmax()(L.Multiply()([x, gate])))


def excited_backbone() -> keras.Model:
    """Squeeze and excitation of the map: it pools, but the map that it makes is the backbone's."""
    base = small_backbone()
    gate = L.Dense(32, "sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(base.output))
    return keras.Model(base.inputs[0], gap_head(L.Multiply()([base.output, gate])))


INSIDE = {"preprocessing": "none", "note": "found preprocessing inside"}
LOGITS = {"output": ("linear", "softmax"), "note": "softmax is added"}
ONE_SIGMOID = {"output": ("sigmoid", "complement"), "classes": 2, "note": "probability of 'b'"}

SHAPES = {
    # poolings, each with an ending of its own
    "gap": Shape(headed(L.GlobalAveragePooling2D, softmax)),
    "gmp": Shape(headed(L.GlobalMaxPooling2D, softmax), "gmp"),
    "flatten": Shape(headed(L.Flatten, softmax), "flatten"),
    "average 2, activation layer": Shape(
        headed(lambda: L.AveragePooling2D(2), L.Flatten, scores, lambda: L.Activation("softmax")),
        "average",
        (2, 2),
        (2, 2),
    ),
    "average 3 stride 1, softmax layer": Shape(
        headed(lambda: L.AveragePooling2D(3, 1), L.Flatten, scores, L.Softmax), "average", (3, 3), (1, 1)
    ),
    "average 2x3 same, softmax layer as activation": Shape(
        headed(
            lambda: L.AveragePooling2D((2, 3), (1, 2), "same"),
            L.Flatten,
            lambda: L.Dense(CLASSES, activation=L.Softmax()),
        ),
        "average",
        (2, 3),
        (1, 2),
    ),
    "max 2, logits": Shape(headed(L.MaxPooling2D, L.Flatten, scores), "max", (2, 2), (2, 2), **LOGITS),
    "max 3 stride 2 same, separate sigmoid": Shape(
        headed(
            lambda: L.MaxPooling2D(3, 2, "same"),
            L.Flatten,
            lambda: L.Dense(1),
            lambda: L.Activation("sigmoid"),
        ),
        "max",
        (3, 3),
        (2, 2),
        **ONE_SIGMOID,
    ),
    "average then gap, one sigmoid": Shape(
        headed(
            lambda: L.AveragePooling2D(2),
            L.GlobalAveragePooling2D,
            lambda: L.Dense(1, activation="sigmoid"),
        ),
        "gap",
        (2, 2),
        (2, 2),
        **ONE_SIGMOID,
    ),
    "logits through batch norm": Shape(
        headed(L.Flatten, scores, L.BatchNormalization), "flatten", **LOGITS
    ),
    "average, batch norm, flatten": Shape(
        headed(lambda: L.AveragePooling2D(2), L.BatchNormalization, L.Flatten, softmax),
        "average",
        (2, 2),
        (2, 2),
    ),
    "gap that keeps the map's rank": Shape(
        headed(
            lambda: L.GlobalAveragePooling2D(keepdims=True),
            lambda: L.Dense(16, "relu"),
            L.Flatten,
            softmax,
        ),
        hidden_units=(16,),
    ),
    "dense on each position": Shape(
        headed(lambda: L.Dense(12, "relu"), L.GlobalAveragePooling2D, softmax), hidden_units=(12,)
    ),
    # stacks
    "gap, two hidden": Shape(
        headed(
            lambda: L.SpatialDropout2D(0.3),
            L.GlobalAveragePooling2D,
            L.BatchNormalization,
            lambda: L.Dense(24, "relu"),
            lambda: L.Dropout(0.5),
            lambda: L.Dense(16, "tanh"),
            softmax,
        ),
        hidden_units=(24, 16),
    ),
    "flatten, dense, batch norm, activation": Shape(
        headed(
            L.Flatten,
            lambda: L.Dropout(0.2),
            lambda: L.Dense(16, use_bias=False),
            L.BatchNormalization,
            lambda: L.Activation("relu"),
            softmax,
        ),
        "flatten",
        hidden_units=(16,),
    ),
    "activation layers": Shape(
        headed(
            L.GlobalAveragePooling2D,
            lambda: L.Dense(16),
            L.LeakyReLU,
            lambda: L.Dense(16),
            L.PReLU,
            lambda: L.Dense(16),
            L.ELU,
            lambda: L.Dense(16),
            L.ReLU,
            lambda: L.GaussianDropout(0.2),
            softmax,
        ),
        hidden_units=(16, 16, 16, 16),
    ),
    "one dense twice": Shape(shared_dense, hidden_units=(32, 32)),
    "layers of another model too": Shape(seen_elsewhere),
    "normalizations": Shape(
        headed(
            L.GlobalAveragePooling2D,
            L.LayerNormalization,
            lambda: L.Dense(12),
            L.UnitNormalization,
            L.Identity,
            lambda: L.ActivityRegularization(l2=0.1),
            softmax,
            lambda: L.Dropout(0.1),
        ),
        hidden_units=(12,),
    ),
    "reshaped features": Shape(
        headed(L.GlobalMaxPooling2D, lambda: L.Reshape((1, 1, -1)), scores, L.Flatten, L.Softmax), "gmp"
    ),
    "reshape as flatten, rescaled logits": Shape(
        headed(lambda: L.Reshape((8 * 8 * 32,)), scores, lambda: L.Rescaling(0.5, 1), L.Softmax),
        "flatten",
    ),
    "convolutions as in MobileNet's top": Shape(
        headed(
            lambda: L.GlobalAveragePooling2D(keepdims=True),
            lambda: L.Conv2D(16, 1, activation="relu"),
            lambda: L.Dropout(0.1),
            lambda: L.Conv2D(CLASSES, 1, padding="same"),
            lambda: L.Reshape((CLASSES,)),
            lambda: L.Activation("softmax"),
        ),
        hidden_units=(16,),
    ),
    "functions of keras.ops": Shape(
        headed(
            L.GlobalAveragePooling2D,
            lambda: L.Dense(16),
            lambda: keras.ops.relu,
            scores,
            lambda: keras.ops.softmax,
        ),
        hidden_units=(16,),
    ),
    # forks
    "gap and gmp": Shape(gap_and_gmp, "gap+gmp", hidden_units=(16,)),
    "branches of windows": Shape(
        branches_of_windows, "average+flatten+gmp", (4, 4), (4, 4), hidden_units=(12, 8, 16)
    ),
    "logits of branches added": Shape(logits_added, "flatten+gap", hidden_units=(6,)),
    "answers of branches averaged": Shape(answers_averaged, "gap+gmp"),
    "a fork before the last ReLU": Shape(
        fork_before_the_last_relu, "gap+gmp", preprocessing="none", asked="none"
    ),
    "residual": Shape(residual_head, hidden_units=(8, 32, 8, 32)),
    "gated": Shape(gated_head, hidden_units=(4, 32)),
    "squeeze and excitation of the map": Shape(excited_backbone, preprocessing="none", asked="none"),
    # nesting
    "nested, training=False": Shape(lambda: called_with(training=False)),
    "sequential": Shape(
        lambda: keras.Sequential([small_backbone(), L.GlobalAveragePooling2D(), softmax()])
    ),
    "sequential with an input": Shape(
        lambda: keras.Sequential(
            [keras.Input((SIDE, SIDE, 3)), small_backbone(), L.Flatten(), L.Dropout(0.5), softmax()]
        ),
        "flatten",
    ),
    "pooled inside the nested model": Shape(pooled_inside),
    "head as a model": Shape(head_as_a_model, "flatten", hidden_units=(16,)),
    "names that repeat": Shape(repeated_names),
    "dicts of one": Shape(dicts),
    "any size": Shape(any_size, note=f"assumed --preprocessing caffe, {SIDE}"),
    # preprocessing: asked for, assumed, or inside
    "asked tf": Shape(fronted(mode="tf"), preprocessing="tf", asked="tf"),
    "asked torch": Shape(fronted(mode="torch"), preprocessing="torch", asked="torch"),
    "asked none": Shape(fronted(), preprocessing="none", asked="none"),
    "asked unit": Shape(fronted(mode="unit"), preprocessing="unit", asked="unit"),
    "asked by numbers": Shape(fronted(mode="numbers"), preprocessing="numbers", asked="numbers"),
    "caffe inside": Shape(fronted(preprocess("caffe")), **INSIDE),
    "tf inside": Shape(fronted(preprocess("tf"), mode="tf"), **INSIDE),
    "torch inside": Shape(fronted(preprocess("torch"), mode="torch"), **INSIDE),
    "rescaling inside": Shape(fronted(lambda: L.Rescaling(1 / 127.5, -1), mode="tf"), **INSIDE),
    "normalization inside": Shape(
        fronted(
            lambda: L.Normalization(mean=[123, 117, 104], variance=[3400, 3200, 3300]), mode="torch"
        ),
        **INSIDE,
    ),
    "augmentation inside": Shape(fronted(L.RandomFlip, lambda: L.RandomRotation(0.1))),
    "augmentation as a model": Shape(
        fronted(
            lambda: keras.Sequential(
                [keras.Input((SIDE, SIDE, 3)), L.RandomFlip(), L.RandomZoom(0.1), L.Rescaling(2, -255)]
            )
        ),
        **INSIDE,
    ),
    "a pipeline that rescales": Shape(
        fronted(lambda: L.Pipeline([L.RandomFlip(), L.Rescaling(2, -255)])), **INSIDE
    ),
    "a pipeline that only turns": Shape(fronted(lambda: L.Pipeline([L.RandomFlip()]))),
    "whole numbers in": Shape(fronted(dtype="uint8"), **INSIDE),
    "whole numbers in, rescaling inside": Shape(
        fronted(lambda: L.Rescaling(1 / 127.5, -1), mode="tf", dtype="uint8"), **INSIDE
    ),
}


# each is like another one but for a detail
TWINS = {
    "average 3 stride 1, softmax layer",
    "average 2x3 same, softmax layer as activation",
    "max 3 stride 2 same, separate sigmoid",
    "logits through batch norm",
    "average, batch norm, flatten",
    "flatten, dense, batch norm, activation",
    "sequential",
    "asked torch",
    "asked none",
    "caffe inside",
    "torch inside",
    "augmentation inside",
    "a pipeline that only turns",
    "whole numbers in, rescaling inside",
}


def by_keras(file: Path, shape: Shape, given: np.ndarray) -> np.ndarray:
    """Probabilities by the whole saved model, with nothing of ours: Keras' preprocessing and numpy."""
    values = processed(given.astype("float32"), shape.preprocessing)
    model = keras.models.load_model(file, compile=False)
    if shape.build is dicts:
        scores = model({"picture": values}, training=False)["scores"].numpy()
    else:
        scores = model(values, training=False).numpy()
    if shape.output[1] == "complement":
        return np.hstack([1 - scores, scores])
    if shape.output[1] == "softmax":
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
    return scores


@dataclass(frozen=True)
class Imported:
    """A shape in the store, and what Keras says of the pictures."""

    shape: Shape
    store: Store
    card: Card
    pixels: np.ndarray
    expected: np.ndarray

    @property
    def file(self) -> Path:
        return self.store.folder(self.card.head, self.card.version) / MODEL


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    made = Store(folder / "store", folder / "cache")
    made.root.mkdir()
    return made


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if name in TWINS else name for name in SHAPES],
)
def imported(request, store, tmp_path_factory):
    shape = SHAPES[request.param]
    keras.utils.set_random_seed(5)
    folder = tmp_path_factory.mktemp("model")
    (folder / "labels.txt").write_text("\n".join("abcdefgh"[: shape.classes]))
    file = save(shape.build(), folder)
    is_any_size = request.param == "any size"
    wishes = ImportOptions(
        "shape",
        folder / "labels.txt",
        size=SIDE if is_any_size else None,
        preprocessing=KNOWN[shape.asked] if shape.asked else None,
    )
    card = import_model(store, file, wishes)
    recompile(store, "shape", card.version, "keras")
    given = pixels(PICTURES, seed=2)
    return Imported(shape, store, card, given, by_keras(file, shape, given))


def test_the_pictures_get_different_and_undecided_answers(imported):
    assert imported.expected.std(axis=0).max() > 0.01
    assert 0.05 < imported.expected.max() < 0.9999
    np.testing.assert_allclose(imported.expected.sum(axis=1), 1, atol=1e-5)


def test_the_joined_parts_are_the_whole_saved_model(imported):
    cut = split(load_model(imported.file), (SIDE, SIDE), imported.card.input.preprocessing)
    joined = cut.head(cut.backbone(imported.pixels, training=False), training=False)
    np.testing.assert_allclose(joined, imported.expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", ["openvino", "keras"])
def test_an_engine_agrees_with_the_whole_saved_model(imported, answer, engine):
    for batch, answers in answer(imported.store, imported.card, engine, imported.pixels, (1, 8)).items():
        np.testing.assert_allclose(
            answers, imported.expected, rtol=0, atol=1e-4, err_msg=f"batch {batch}"
        )


def test_the_card_says_what_the_model_is(imported):
    card, shape = imported.card, imported.shape
    model = keras.models.load_model(imported.file, compile=False)
    structure = card.structure
    assert structure.pooling == shape.pooling
    assert (structure.filter, structure.stride) == (shape.filter, shape.stride)
    assert structure.hidden_units == shape.hidden_units
    assert (card.output.activation, card.output.to_probabilities) == shape.output
    assert card.input.preprocessing == KNOWN[shape.preprocessing]
    assert (card.input.height, card.input.width) == (SIDE, SIDE)
    assert card.backbone.feature_shape == (8, 8, 32)
    assert card.backbone.parameters + structure.parameters == model.count_params()
    assert structure.weight_bytes == 4 * structure.parameters
    if shape.asked is None:
        assert any(shape.note.split(",")[0] in note for note in card.notes), card.notes


def test_shapes_with_equal_backbones_and_preprocessing_share_them(store):
    """All these shapes stand on one small backbone: behind one preprocessing it is compiled once."""
    cards = [store.read_card("shape", version) for version in store.versions("shape")]
    caffe = {card.backbone.digest for card in cards if card.input.preprocessing.name == "caffe"}
    assert len(caffe) == 1
    assert len({card.structure.digest for card in cards}) > len(cards) / 2


# real ResNet50s: the graph is deeper, and Keras makes the nested ones


def resnet50(**options: object) -> keras.Model:
    """Keras' own, with the weights of the calibrated one."""
    model = keras.applications.ResNet50(weights=None, include_top=False, **options)
    model.set_weights(backbone().get_weights())
    return model


def sequential_resnet() -> keras.Model:
    return keras.Sequential([backbone(), L.Flatten(), L.Dropout(0.5), softmax()])


def nested_resnet() -> keras.Model:
    inputs = keras.Input((SIDE, SIDE, 3))
    turned = L.RandomRotation(0.1)(L.RandomFlip()(inputs))
    values = keras.applications.resnet50.preprocess_input(turned)
    return keras.Model(inputs, gap_head(backbone()(values, training=False)))


def pooled_resnet() -> keras.Model:
    inputs = keras.Input((SIDE, SIDE, 3))
    nested = resnet50(input_shape=(SIDE, SIDE, 3), pooling="avg")
    return keras.Model(inputs, chained(nested(inputs), L.BatchNormalization(), softmax()))


RESNETS = {
    "sequential": Shape(sequential_resnet, "flatten"),
    "nested with all inside": Shape(nested_resnet, preprocessing="none"),
    "pooled inside": Shape(pooled_resnet),
}


@pytest.mark.parametrize(
    "name",
    [
        "nested with all inside",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("sequential", "pooled inside")),
    ],
)
def test_a_real_resnet50_is_cut_at_its_last_feature_map(name, tmp_path):
    shape = RESNETS[name]
    keras.utils.set_random_seed(5)
    file = save(shape.build(), tmp_path)
    cut = split(load_model(file), (SIDE, SIDE), None)
    given = pixels(PICTURES, seed=2)
    expected = by_keras(file, shape, given)
    assert expected.std(axis=0).max() > 0.01
    joined = cut.head(cut.backbone(given, training=False), training=False)
    np.testing.assert_allclose(joined, expected, rtol=0, atol=1e-5)
    assert (cut.pooling, cut.preprocessing.name) == (shape.pooling, shape.preprocessing)
    assert cut.feature_shape == (2, 2, 2048)
    assert cut.backbone.count_params() == RESNET50_PARAMETERS
