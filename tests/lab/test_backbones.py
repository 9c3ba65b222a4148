"""Backbones of keras.applications from their file to an answer over HTTP, its map and a benchmark.

Nobody says how their pixels are preprocessed: that must be found, or be known by their structure.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import keras
import numpy as np
import pytest
from keras_models import LABELS, calibrate, pixels, save
from PIL import Image
from process import serving

from service.benchmark.bench import Bench
from service.benchmark.children import Children
from service.benchmark.plan import Plan, cards_in
from service.lab.models import golden
from service.lab.models.importing import ImportOptions, import_model
from service.store.card import PREPROCESSING, Card, Input
from service.store.layout import Store

A = keras.applications
LARGE = pytest.mark.slow
PICTURES = 8
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Kind:
    """A backbone, what Keras' own script does to pixels in front of it, and what the card must say.

    Untrained layers without shortcuts around them multiply rounding: with `beta` 0 of its normalizations
    Keras' own InceptionV3 is 1.5e-4 away from float64, with 1 (most values pass the ReLUs) 2e-5.
    """

    build: Callable[..., keras.Model]
    process: Callable[[np.ndarray], np.ndarray]
    side: int
    preprocessing: str
    note: str
    beta: float = 0.0


KINDS = {
    "ResNet50V2": Kind(A.ResNet50V2, A.resnet_v2.preprocess_input, 48, "tf", "Keras' ResNetV2"),
    "MobileNetV2": Kind(A.MobileNetV2, A.mobilenet_v2.preprocess_input, 64, "tf", "Keras' MobileNetV2"),
    "ResNet101": Kind(A.ResNet101, A.resnet.preprocess_input, 64, "caffe", "Keras' ResNet,"),
    "ResNet152": Kind(A.ResNet152, A.resnet.preprocess_input, 64, "caffe", "Keras' ResNet,"),
    "EfficientNetB0": Kind(
        A.EfficientNetB0, A.efficientnet.preprocess_input, 64, "none", "found preprocessing inside"
    ),
    "VGG16": Kind(A.VGG16, A.vgg16.preprocess_input, 64, "caffe", "Keras' VGG16"),
    "DenseNet121": Kind(A.DenseNet121, A.densenet.preprocess_input, 64, "torch", "Keras' DenseNet"),
    "InceptionV3": Kind(
        A.InceptionV3, A.inception_v3.preprocess_input, 75, "tf", "Keras' Inception", 1.0
    ),
    "Xception": Kind(A.Xception, A.xception.preprocess_input, 71, "tf", "Keras' Xception"),
}
FAST = ("ResNet50V2", "MobileNetV2")


@dataclass(frozen=True)
class Imported:
    kind: Kind
    store: Store
    card: Card
    model: keras.Model
    pictures: np.ndarray
    expected: np.ndarray


@pytest.fixture(
    scope="module", params=[name if name in FAST else pytest.param(name, marks=LARGE) for name in KINDS]
)
def imported(request, tmp_path_factory):
    kind = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    pictures = asked_here(kind)
    model = classifier(kind)
    values = kind.process(pictures.astype("float32"))
    store = Store(folder / "store", folder / "cache")
    store.root.mkdir()
    (folder / "labels.txt").write_text("\n".join(LABELS))
    card = import_model(
        store, save(model, folder), ImportOptions("it", folder / "labels.txt", resize="bilinear")
    )
    expected = model(values, training=False).numpy()
    return Imported(kind, store, card, model, pictures, expected)


def classifier(kind: Kind) -> keras.Model:
    """The backbone, untrained, with GAP and a dense layer that tells pictures apart.

    It is calibrated on the pictures that it is asked about, here and by `import`: of others it might be
    so sure that rounding decides.
    """
    keras.utils.set_random_seed(11)
    shape = (kind.side, kind.side, 3)
    backbone = kind.build(weights=None, include_top=False, input_shape=shape)
    values = kind.process(np.concatenate([asked_here(kind), asked_by_import(kind)]).astype("float32"))
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.beta.assign(kind.beta + keras.ops.zeros_like(layer.beta))
    calibrate(backbone, values)
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    features = keras.Model(backbone.inputs[0], pooled)(values, training=False).numpy()
    dense = keras.layers.Dense(len(LABELS), activation="softmax")
    model = keras.Model(backbone.inputs[0], dense(pooled))
    dense.set_weights(decided(features, len(LABELS)))
    return model


def asked_here(kind: Kind) -> np.ndarray:
    return pixels(PICTURES, seed=2, side=kind.side)


def asked_by_import(kind: Kind) -> np.ndarray:
    spec = Input(
        height=kind.side,
        width=kind.side,
        decode="exact",
        resize="bilinear",
        preprocessing=PREPROCESSING["none"],
    )
    return golden.decoded(golden.candidates(), spec)


def decided(features: np.ndarray, classes: int) -> list[np.ndarray]:
    """A kernel and a bias whose logits differ by picture, whatever the scale of the features."""
    kernel = np.random.default_rng(4).normal(size=(features.shape[1], classes))
    # What all pictures share would drown what tells them apart.
    mean = features.mean(axis=0).astype("float64")
    kernel -= np.outer(mean, mean @ kernel) / (mean @ mean)
    kernel *= 1.5 / (features @ kernel).std()
    return [kernel.astype("float32"), np.linspace(-0.5, 0.5, classes, dtype="float32")]


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


def test_it_is_cut_and_its_preprocessing_is_that_of_keras(imported):
    card, kind = imported.card, imported.kind
    assert card.input.preprocessing.name == kind.preprocessing
    assert any(kind.note in note for note in card.notes), card.notes
    assert card.backbone.parameters + card.structure.parameters == imported.model.count_params()
    assert card.structure.pooling == "gap"


def test_the_pictures_get_different_and_undecided_answers(imported):
    assert imported.expected.std(axis=0).max() > 0.02
    assert 0.05 < imported.expected.max() < 0.999


def test_it_is_served_and_explained_as_keras_computes_it(imported):
    """Over HTTP, from encoded pictures; the map is features times weights by the number of positions."""
    *_, pooling, dense = imported.model.layers
    to_map = keras.Model(imported.model.inputs[0], pooling.input)
    maps = to_map(imported.kind.process(imported.pictures.astype("float32")), training=False).numpy()
    kernel, bias = dense.get_weights()
    with serving(imported.store, "--engine", "openvino", "--log-level", "warning") as server:
        for picture, expected, features in zip(imported.pictures, imported.expected, maps, strict=True):
            body = {"content": png(picture), "timeout": 60}
            answer = httpx.post(f"{server.url}/predict?head=it&top_k=5", **body).json()
            ranked = answer["results"][0]["predictions"]
            assert [one["index"] for one in ranked] == list(np.argsort(-expected))
            got = [one["probability"] for one in sorted(ranked, key=lambda one: one["index"])]
            np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)

            answer = httpx.post(f"{server.url}/explain?head=it&class=2", **body).json()
            told = answer["results"][0]
            evidence = features @ kernel[:, 2] / (features.shape[0] * features.shape[1])
            if imported.card.structure.filter is None:  # Else a window comes before the pooling.
                np.testing.assert_allclose(told["grid"], evidence, rtol=1e-3, atol=1e-3)
            assert told["logit"] == pytest.approx(evidence.sum() + bias[2], abs=1e-3)


def test_it_is_measured(imported):
    bench = Bench(imported.store, threads=2)
    plan = Plan(seconds=4, batch_sizes=[1])
    report = bench.measure(plan, cards_in(imported.store, None), "openvino", Children())
    (measured,) = report.heads
    assert measured.parameters == imported.model.count_params()
    assert measured.latency[0].p50_ms > 0
