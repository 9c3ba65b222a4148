"""SavedModel folders, against the framework that wrote them."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_models import CLASSES, SIDE, backbone, chained, pixels, small_backbone
from PIL import Image

from service.errors import CommandError
from service.lab.models.compile import digest_of
from service.lab.models.opening import open_source
from service.lab.models.publishing import Description, publish
from service.lab.models.recompile import recompile
from service.lab.models.split import split
from service.serving.batcher import Trace
from service.serving.engines.openvino import OpenVinoEngine
from service.serving.explain.evidence import evidence_of
from service.store.card import PREPROCESSING
from service.store.layout import Store

CASES = Path(__file__).parents[1] / "cases" / "models"
GENUINE = ("k2-savedmodel-gap", "k2-tutorial-preprocess-inside-savedmodel", "k3-exported")
L = keras.layers


def spec_of(name: str) -> dict:
    return json.loads((CASES / f"{name}.json").read_text())


def pictures(side: int) -> np.ndarray:
    files = [CASES / "pictures" / f"{side}-{number}.png" for number in range(3)]
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])


def answers(cut, given: np.ndarray) -> np.ndarray:
    """The probabilities by OpenVINO, from backbone and head."""
    engine = OpenVinoEngine(2)
    backbone_, head = (engine.compile(graph) for graph in cut.graphs())
    return head(backbone_(given)).copy()


@pytest.mark.parametrize("name", GENUINE)
def test_a_genuine_folder_answers_as_the_framework_that_wrote_it(name):
    spec = spec_of(name)
    said = None if spec["preprocessing_inside"] else PREPROCESSING[spec["pixels"]]
    cut = open_source(CASES / name).cut((spec["size"],) * 2, said)
    given, expected = pictures(spec["size"]), np.array(spec["probabilities"])
    assert np.ptp(expected, axis=0).max() > 0.1
    np.testing.assert_allclose(answers(cut, given), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(cut.whole(given), expected, rtol=0, atol=1e-4)
    assert cut.has_own_preprocessing == spec["preprocessing_inside"]
    assert (cut.pooling, cut.feature_shape, cut.classes) == ("gap", (2, 2, 32), len(spec["labels"]))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A genuine folder in a store, and its card."""
    folder = tmp_path_factory.mktemp("published")
    store = Store(folder / "store", folder / "cache")
    store.root.mkdir()
    spec = spec_of("k2-savedmodel-gap")
    description = Description(
        "flowers", tuple(spec["labels"]), (64, 64), "imported", preprocessing=PREPROCESSING["caffe"]
    )
    return store, publish(store, open_source(CASES / "k2-savedmodel-gap"), description)


def test_its_files_are_kept_byte_for_byte(published):
    store, card = published
    kept = store.source_of(card)
    assert card.source.format == "saved_model"
    for name in ("saved_model.pb", "keras_metadata.pb", "variables/variables.index"):
        assert (kept / name).read_bytes() == (CASES / "k2-savedmodel-gap" / name).read_bytes()
    assert len(card.source.files) == sum(file.is_file() for file in kept.rglob("*"))


def test_its_golden_answer_is_that_of_tensorflow(published):
    _, card = published
    given = np.asarray(Image.open(io.BytesIO(card.golden.image)).convert("RGB"))[np.newaxis]
    expected = tf.saved_model.load(CASES / "k2-savedmodel-gap").signatures["serving_default"](
        tf.constant(keras.applications.resnet50.preprocess_input(given.astype("float32")))
    )
    (scores,) = expected.values()
    np.testing.assert_allclose(card.golden.probabilities, scores[0], rtol=0, atol=1e-5)


def test_its_compiled_files_are_made_again_from_the_folder(published, snapshot):
    store, card = published
    before = snapshot(store.root)
    for digest in (card.backbone.digest, card.structure.digest):
        shutil.rmtree(store.root / ".compiled" / digest)
    recompile(store, card.head, card.version, "openvino")
    assert snapshot(store.root).keys() == before.keys()
    engine = OpenVinoEngine(2)
    network, head = (
        engine.open(store.backbone_of(card, "openvino")),
        engine.open(store.head_of(card, "openvino")),
    )
    expected = spec_of("k2-savedmodel-gap")["probabilities"]
    np.testing.assert_allclose(head(network(pictures(64))), expected, rtol=0, atol=1e-4)


def test_its_evidence_adds_up_to_its_logits(published):
    """`evidence_of` raises where it does not."""
    store, card = published
    engine = OpenVinoEngine(2)
    head = engine.open_head(store.head_of(card, "openvino"))
    given = pictures(64)
    features = engine.open(store.backbone_of(card, "openvino"))(given).copy()
    head(features)
    for row, picture in enumerate(given):
        trace = Trace(picture, features[row], head.logits()[row].copy())
        for index in range(len(card.labels)):
            evidence = evidence_of(head.layers, trace, card.output, index)
            assert evidence.grid.shape == (2, 2)


def test_the_keras_engine_is_refused_with_a_reason():
    cut = open_source(CASES / "k3-exported").cut((64, 64), None)
    with pytest.raises(CommandError, match=r"^A SavedModel is a graph without Keras' layers"):
        cut.networks()
    with pytest.raises(CommandError, match=r"^A SavedModel is a graph without Keras' layers"):
        _ = open_source(CASES / "k3-exported").model


# Models that Keras 3 exports, against the same models cut by their layers


def headed(*layers: L.Layer) -> keras.Model:
    """The small backbone, functional and flat, with these layers on top."""
    base = small_backbone()
    return keras.Model(base.inputs[0], chained(base.output, *layers))


def softmax() -> L.Layer:
    return L.Dense(CLASSES, activation="softmax")


def nested(first: Callable, mode: str, dtype: str = "float32") -> keras.Model:
    """An operation, then the small backbone as a nested model, and a head."""
    inputs = keras.Input((SIDE, SIDE, 3), dtype=dtype)
    features = small_backbone(mode=mode)(first(inputs))
    return keras.Model(inputs, chained(features, L.GlobalAveragePooling2D(), softmax()))


def any_size() -> keras.Model:
    inputs = keras.Input((None, None, 3))
    flexible = keras.models.clone_model(small_backbone(), input_tensors=inputs)
    flexible.set_weights(small_backbone().get_weights())
    return keras.Model(inputs, chained(flexible(inputs), L.GlobalAveragePooling2D(), softmax()))


MODELS = {
    "gap": lambda: headed(L.GlobalAveragePooling2D(), softmax()),
    "gmp, logits": lambda: headed(L.GlobalMaxPooling2D(), L.Dense(CLASSES)),
    "flatten, two hidden": lambda: headed(
        L.Flatten(),
        L.Dropout(0.5),
        L.Dense(16, use_bias=False),
        L.BatchNormalization(),
        L.ReLU(),
        L.Dense(12, activation="swish"),
        softmax(),
    ),
    "average 2x3, same": lambda: headed(
        L.AveragePooling2D((2, 3), (1, 2), "same"), L.Flatten(), softmax()
    ),
    "max 3 stride 2, one sigmoid": lambda: headed(
        L.MaxPooling2D(3, 2), L.BatchNormalization(), L.Flatten(), L.Dense(1, activation="sigmoid")
    ),
    "average, then gap": lambda: headed(L.AveragePooling2D(2), L.GlobalAveragePooling2D(), softmax()),
    "gap that keeps the rank": lambda: headed(
        L.GlobalAveragePooling2D(keepdims=True), L.Dense(16, activation="relu"), L.Flatten(), softmax()
    ),
    "dense on each position": lambda: headed(
        L.Dense(12, activation="relu"), L.GlobalAveragePooling2D(), softmax()
    ),
    "activation layers": lambda: headed(
        L.GlobalAveragePooling2D(), L.Dense(16), L.LeakyReLU(), L.Dense(16), L.PReLU(), softmax()
    ),
    "sequential": lambda: keras.Sequential([small_backbone(), L.GlobalAveragePooling2D(), softmax()]),
    "any size": any_size,
    "caffe inside": lambda: nested(keras.applications.resnet50.preprocess_input, "caffe"),
    "augmentation and rescaling inside": lambda: nested(
        lambda x: L.Rescaling(1 / 127.5, -1)(L.RandomRotation(0.1)(L.RandomFlip()(x))), "tf"
    ),
    "whole numbers, rescaling inside": lambda: nested(L.Rescaling(1 / 127.5, -1), "tf", "uint8"),
    "a real ResNet50": lambda: keras.Sequential([backbone(), L.Flatten(), softmax()]),
}
SLOW = ("a real ResNet50",)


def exported(model: keras.Model, folder: Path, training: bool = False, **endpoints: keras.Model) -> Path:
    """The model as a SavedModel: as `model.export` does it, but without its augmentation."""

    def answering(one: keras.Model) -> Callable:
        return lambda batch: one(batch, training=training)

    archive = keras.export.ExportArchive()
    for name, one in {"serve": model, **endpoints}.items():
        archive.track(one)
        source = keras.InputSpec(shape=one.inputs[0].shape, dtype=one.inputs[0].dtype)
        archive.add_endpoint(name, answering(one), [source])
    archive.write_out(folder / "exported", verbose=False)
    return folder / "exported"


FACTS = (
    "preprocessing",
    "has_own_preprocessing",
    "output",
    "pooling",
    "filter",
    "stride",
    "hidden_units",
    "feature_shape",
    "classes",
    "backbone_parameters",
    "head_parameters",
    "head_bytes",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in MODELS]
)
def test_an_exported_model_is_cut_as_its_layers_are(name, tmp_path):
    """The graphs are the same to the last bit, so that both share a backbone."""
    keras.utils.set_random_seed(5)
    model = MODELS[name]()
    by_layers = split(model, (SIDE, SIDE), None)
    by_graph = open_source(exported(model, tmp_path)).cut((SIDE, SIDE), None)
    assert {fact: getattr(by_graph, fact) for fact in FACTS} == {
        fact: getattr(by_layers, fact) for fact in FACTS
    }
    assert list(map(digest_of, by_graph.graphs())) == list(map(digest_of, by_layers.graphs()))
    given = pixels(4, seed=2)
    expected = by_layers.whole(given)
    assert expected.std(axis=0).max() > 0.001
    np.testing.assert_allclose(answers(by_graph, given), expected, rtol=0, atol=1e-5)


def test_the_graphs_outlive_the_cut(tmp_path):
    """OpenVINO must not go on reading weights that TensorFlow has freed."""
    folder = exported(MODELS["gap"](), tmp_path)
    graphs = open_source(folder).cut((SIDE, SIDE), None).graphs()
    digests = list(map(digest_of, graphs))
    for _ in range(20):
        _ = tf.random.uniform((1000, 1000)) + 1
    assert list(map(digest_of, graphs)) == digests


def test_the_first_endpoint_of_an_export_is_served(tmp_path):
    model = MODELS["gap"]()
    features = keras.Model(model.inputs[0], model.layers[-2].output)
    folder = exported(model, tmp_path, features=features)
    given = pixels(4, seed=2)
    np.testing.assert_allclose(
        answers(open_source(folder).cut((SIDE, SIDE), None), given),
        split(model, (SIDE, SIDE), None).whole(given),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_is_served_in_float32(policy, tmp_path):
    model = MODELS["gap"]()
    keras.config.set_dtype_policy(policy)
    try:
        base = small_backbone.__wrapped__()
        mixed = keras.Model(base.inputs[0], chained(base.output, L.GlobalAveragePooling2D(), softmax()))
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(model.get_weights())
    opened = open_source(exported(mixed, tmp_path))
    assert opened.notes == (f"the model was trained in {policy}; it is served in float32",)
    cut, given = opened.cut((SIDE, SIDE), None), pixels(4, seed=2)
    expected = split(model, (SIDE, SIDE), None).whole(given)
    np.testing.assert_allclose(answers(cut, given), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(cut.whole(given), expected, rtol=0, atol=1e-5)


REFUSED = {
    "multi-label": (lambda: headed(L.Flatten(), L.Dense(5, activation="sigmoid")), "multi-label"),
    "one logit": (lambda: headed(L.Flatten(), L.Dense(1)), "one linear unit"),
    "relu": (lambda: headed(L.Flatten(), L.Dense(5, activation="relu")), "ends in 'relu'"),
    "no dense": (lambda: headed(L.GlobalAveragePooling2D(), L.Softmax()), "no dense layer"),
    "a map": (lambda: headed(L.Conv2D(5, 1)), r"gives \(8, 8, 5\) per picture"),
    "no convolution": (
        lambda: keras.Sequential([keras.Input((SIDE, SIDE, 3)), L.Flatten(), softmax()]),
        "holds no convolution",
    ),
    "grey": (
        lambda: keras.Sequential([keras.Input((SIDE, SIDE, 1)), L.Conv2D(4, 3), L.Flatten(), softmax()]),
        r"\(64, 64, 1\); \(height, width, 3\) is needed",
    ),
    "another size": (
        lambda: keras.Sequential([keras.Input((32, 32, 3)), L.Conv2D(4, 3), L.Flatten(), softmax()]),
        r"fixed to \(32, 32\), not \(64, 64\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_is_refused(name, tmp_path):
    build, sentence = REFUSED[name]
    folder = exported(build(), tmp_path)
    with pytest.raises(CommandError, match=sentence) as caught:
        open_source(folder).cut((SIDE, SIDE), None)
    assert len(str(caught.value)) <= 300


def two_maps(model: keras.Model) -> keras.Model:
    """Pools a map in the middle as well as the last one."""
    maps = [layer.output for layer in model.layers if len(layer.output.shape) == 4]
    pooled = [L.GlobalAveragePooling2D()(one) for one in (maps[3], maps[-1])]
    return keras.Model(model.inputs[0], softmax()(L.Concatenate()(pooled)))


def test_a_head_on_two_maps_is_refused(tmp_path):
    folder = exported(two_maps(small_backbone()), tmp_path)
    with pytest.raises(CommandError, match="joins 2 feature maps"):
        open_source(folder).cut((SIDE, SIDE), None)


def test_two_outputs_are_refused(tmp_path):
    base = small_backbone()
    heads = [softmax()(L.Flatten()(base.output)) for _ in range(2)]
    keras.Model(base.inputs[0], heads).export(tmp_path / "two", verbose=False)
    with pytest.raises(CommandError, match="it has 1 and 2"):
        open_source(tmp_path / "two")


def test_augmentation_that_keras_exported_alive_is_refused(tmp_path):
    """`model.export` of Keras 3 leaves it switched on."""
    MODELS["augmentation and rescaling inside"]().export(tmp_path / "random", verbose=False)
    with pytest.raises(CommandError, match=r"at random.* save it as NAME\.keras"):
        open_source(tmp_path / "random")


def test_batch_statistics_are_refused(tmp_path):
    """A picture would get other answers with other pictures beside it."""
    folder = exported(MODELS["gap"](), tmp_path, training=True)
    with pytest.raises(CommandError, match="depends on the others in its batch"):
        open_source(folder).cut((SIDE, SIDE), None)


def test_preprocessing_in_front_of_whole_numbers_is_refused(tmp_path):
    folder = exported(MODELS["whole numbers, rescaling inside"](), tmp_path)
    with pytest.raises(CommandError, match="takes whole numbers"):
        open_source(folder).cut((SIDE, SIDE), PREPROCESSING["unit"])


def test_the_folder_of_versions_names_the_newest(tmp_path):
    for version in ("1", "9", "10"):
        shutil.copytree(CASES / "k3-exported", tmp_path / "flowers" / version)
    with pytest.raises(
        CommandError, match=r"^flowers holds no saved_model.pb, but 10 in it does: give .*10\.$"
    ):
        open_source(tmp_path / "flowers")


A, SLOW = keras.applications, pytest.mark.slow


@pytest.mark.parametrize(
    ("build", "side"),
    [
        (A.ResNet50V2, 32),
        (A.MobileNetV2, 32),
        pytest.param(A.ResNet50, 32, marks=SLOW),
        pytest.param(A.VGG16, 32, marks=SLOW),
        pytest.param(A.DenseNet121, 32, marks=SLOW),
        pytest.param(A.EfficientNetB0, 32, marks=SLOW),
        pytest.param(A.Xception, 71, marks=SLOW),
        pytest.param(A.InceptionV3, 75, marks=SLOW),
    ],
)
def test_a_backbone_is_known_by_its_graph_as_by_its_layers(build, side, tmp_path):
    base = build(weights=None, include_top=False, input_shape=(side, side, 3))
    model = keras.Model(base.inputs[0], chained(base.output, L.GlobalAveragePooling2D(), softmax()))
    model.export(tmp_path / "model", verbose=False)
    graph = open_source(tmp_path / "model").cut((side, side), None)
    layers = split(model, (side, side), None)
    assert layers.family is not None
    assert graph.family == layers.family
    assert graph.preprocessing == layers.preprocessing
    assert graph.has_own_preprocessing == layers.has_own_preprocessing


def test_forks_are_named_as_those_of_layers(tmp_path):
    base = small_backbone()
    joined = L.Concatenate()(
        [L.GlobalAveragePooling2D()(base.output), L.GlobalMaxPooling2D()(base.output)]
    )
    model = keras.Model(base.inputs[0], softmax()(joined))
    model.export(tmp_path / "model", verbose=False)
    given = pixels(3, seed=4)
    cut = open_source(tmp_path / "model").cut((SIDE, SIDE), PREPROCESSING["caffe"])
    assert cut.pooling == "gap+gmp"
    np.testing.assert_allclose(answers(cut, given), cut.whole(given), rtol=0, atol=1e-4)
