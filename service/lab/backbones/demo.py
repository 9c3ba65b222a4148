"""The offline demo: a seeded, untrained backbone, and two heads trained on generated pictures.

A coloured disc lies in one corner of a noisy picture; a class is a colour and a corner. Averaging the
feature map keeps the colour and loses the corner, which shows what GAP gives up.
"""

import io
import itertools
import time
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from service.console import track
from service.lab.models.compile import to_openvino
from service.lab.models.split import split
from service.serving.engines.openvino import OpenVinoEngine
from service.serving.host import available_cores
from service.serving.pixels import decode
from service.store.card import PREPROCESSING, Input, Training

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 220), "yellow": (230, 210, 50)}
CORNERS = {"top-left": (0, 0), "top-right": (1, 0), "bottom-left": (0, 1), "bottom-right": (1, 1)}
LABELS = tuple("-".join(pair) for pair in itertools.product(COLOURS, CORNERS))

SIDE = 224
INPUT = Input(
    height=SIDE, width=SIDE, decode="scaled", resize="bilinear", preprocessing=PREPROCESSING["caffe"]
)
SEED = 7
TRAIN_PER_CLASS = 20
TEST_PER_CLASS = 8
CALIBRATION_PICTURES = 16
DAMPING = 0.1
BATCH = 8
EPOCHS = 25


@dataclass(frozen=True)
class DemoHead:
    """A trained model and its scores."""

    name: str
    model: keras.Model
    training: Training


@dataclass(frozen=True)
class DemoFeatures:
    """Feature maps (n, 7, 7, 2048) and classes (n,) of the pictures; the training split comes first."""

    features: NDArray[np.float32]
    classes: NDArray[np.int64]
    images_train: int


def picture(label: str, rng: np.random.Generator, side: int = SIDE) -> Image.Image:
    """A disc of the label's colour in its corner, on noise; position, size and shade vary."""
    colour, corner = label.split("-", 1)
    noise = rng.integers(60, 196, (side // 4, side // 4, 3), dtype=np.uint8)
    canvas = Image.fromarray(noise).resize((side, side), Image.Resampling.BILINEAR)
    shade = tuple(int(np.clip(value + rng.integers(-25, 26), 0, 255)) for value in COLOURS[colour])
    radius = side * rng.uniform(0.10, 0.16)
    x, y = (side * (0.25 + 0.5 * place + rng.uniform(-0.06, 0.06)) for place in CORNERS[corner])
    ImageDraw.Draw(canvas).ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade)
    return canvas


def jpeg(canvas: Image.Image) -> bytes:
    """Encodes the picture as JPEG, as a client would send it."""
    file = io.BytesIO()
    canvas.save(file, "JPEG", quality=90)
    return file.getvalue()


def demo_heads(seed: int = SEED) -> list[DemoHead]:
    """Trains `gap` and `flatten` on the same features of the same pictures."""
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    classes = np.tile(np.arange(len(LABELS)), TRAIN_PER_CLASS + TEST_PER_CLASS)
    pixels = _pictures(classes, rng)
    backbone = calibrated(pixels[:CALIBRATION_PICTURES])
    data = DemoFeatures(_features(backbone, pixels), classes, len(LABELS) * TRAIN_PER_CLASS)
    poolings = {
        "gap": keras.layers.GlobalAveragePooling2D(name="avg_pool"),
        "flatten": keras.layers.Flatten(name="flatten"),
    }
    return [_train(name, pooling, backbone, data, seed) for name, pooling in poolings.items()]


def _pictures(classes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
    files = [jpeg(picture(LABELS[index], rng)) for index in classes]
    return np.stack([decode.decode(file, INPUT, SIDE * SIDE) for file in files])


def calibrated(pixels: NDArray[np.uint8]) -> keras.Model:
    """ResNet50 without top, untrained, with the batch statistics of `pixels` (n, height, width, 3).

    Its residual branches are damped: the last gamma of each block is 0.1 (0 in Goyal et al. 2017, 5.1).
    """
    backbone = keras.applications.ResNet50(weights=None, include_top=False, input_shape=pixels.shape[1:])
    norms = [layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        if norm.name.endswith("_3_bn"):
            norm.gamma.assign(DAMPING * norm.gamma)
        norm.momentum = 0.0
    values = keras.applications.resnet50.preprocess_input(pixels.astype(np.float32))
    tf.function(backbone)(values, training=True)  # A direct call would keep 2 GB of activations.
    for norm in norms:
        norm.momentum = 0.99
    return backbone


def _features(backbone: keras.Model, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The last feature map of each picture, (n, 7, 7, 2048), computed by OpenVINO."""
    with_any_head = keras.Model(
        backbone.inputs[0], keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(backbone.output))
    )
    graph = to_openvino(split(with_any_head, (SIDE, SIDE), INPUT.preprocessing).backbone)
    network = OpenVinoEngine(available_cores()).compile(graph)
    batches = np.array_split(pixels, len(pixels) // BATCH)
    return np.concatenate(
        [network(batch).copy() for batch in track(batches, len(batches), "Extracting features")]
    )


def _train(
    name: str, pooling: keras.layers.Layer, backbone: keras.Model, data: DemoFeatures, seed: int
) -> DemoHead:
    """Trains one Dense on pooled, standardised features, and folds the standardisation into it."""
    started = time.monotonic()
    pooled = keras.ops.convert_to_numpy(pooling(data.features))
    train, test = slice(data.images_train), slice(data.images_train, None)
    mean, spread = pooled[train].mean(axis=0), pooled[train].std(axis=0)
    # The mean is added so that features that hardly vary are not blown up.
    scale = 1 / (spread + spread.mean())
    standard = (pooled - mean) * scale
    dense = keras.layers.Dense(len(LABELS), activation="softmax", name="predictions")
    trainer = keras.Sequential([keras.Input(standard.shape[1:]), dense])
    trainer.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    trainer.fit(standard[train], data.classes[train], epochs=EPOCHS, batch_size=32, verbose=0)
    guesses, truth = trainer.predict(standard[test], verbose=0).argmax(axis=1), data.classes[test]
    weights, bias = dense.get_weights()
    dense.set_weights([weights * scale[:, np.newaxis], bias - (mean * scale) @ weights])
    training = Training(
        images_train=data.images_train,
        images_test=len(truth),
        seed=seed,
        seconds=round(time.monotonic() - started, 1),
        accuracy=float(np.mean(guesses == truth)),
        accuracy_by={
            "colour": float(np.mean(guesses // len(CORNERS) == truth // len(CORNERS))),
            "corner": float(np.mean(guesses % len(CORNERS) == truth % len(CORNERS))),
        },
    )
    return DemoHead(name, keras.Model(backbone.inputs[0], dense(pooling(backbone.output))), training)
