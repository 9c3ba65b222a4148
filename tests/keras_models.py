"""Real ResNet50s at a small input size, in the shapes people save them in. Imports TensorFlow."""

from functools import cache
from pathlib import Path

import keras
import numpy as np
from stored import empty

import service.lab  # noqa: F401 (quiet TensorFlow)
from service.lab.models.importing import ImportOptions, import_model

SIDE = 64
CLASSES = 5
LABELS = ("apple", "banana", "cherry", "damson", "elder")


@cache
def backbone(seed: int = 1, side: int = SIDE) -> keras.Model:
    """A seeded ResNet50 without top, damped and calibrated so that features differ by picture."""
    keras.utils.set_random_seed(seed)
    model = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(side, side, 3))
    noise = pixels(16, seed, side).astype("float32")
    calibrate(model, keras.applications.resnet50.preprocess_input(noise))
    return model


def calibrate(model: keras.Model, inputs: np.ndarray) -> None:
    """Sets the statistics of all batch normalizations to those of the inputs.

    The last ones of ResNet50's residual branches are damped first; else the sum of all branches drowns
    what tells pictures apart.
    """
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        if norm.name.endswith("_3_bn"):
            norm.gamma.assign(0.1 * norm.gamma)
        norm.momentum = 0.0
    model(inputs, training=True)
    for norm in norms:
        norm.momentum = 0.99


def pixels(count: int, seed: int = 0, side: int = SIDE) -> np.ndarray:
    """Smooth random pictures, uint8 (count, side, side, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 8, 8, 3)).astype("float32")
    smooth = keras.ops.image.resize(coarse, (side, side), interpolation="bicubic")
    return np.clip(keras.ops.convert_to_numpy(smooth), 0, 255).astype("uint8")


def classifier(pooling: keras.layers.Layer, seed: int = 1, classes: int = CLASSES) -> keras.Model:
    """Functional: backbone, one pooling, one Dense with softmax; equal seeds share the backbone."""
    base = backbone(seed)
    keras.utils.set_random_seed(seed + 100)
    dense = keras.layers.Dense(classes, activation="softmax")
    return keras.Model(base.inputs[0], dense(pooling(base.output)))


def save(model: keras.Model, folder: Path, name: str = "model") -> Path:
    """The model as a file a person would bring."""
    path = folder / f"{name}.keras"
    model.save(path)
    return path


def import_small(place: str) -> None:
    """`gap` and `flatten` on one backbone, imported into a new store in that folder."""
    folder = Path(place)
    store = empty(folder)
    (folder / "labels.txt").write_text("\n".join(LABELS))
    poolings = {"gap": keras.layers.GlobalAveragePooling2D(), "flatten": keras.layers.Flatten()}
    for head, pooling in poolings.items():
        file = save(classifier(pooling), folder, head)
        import_model(
            store, file, ImportOptions(head=head, labels=folder / "labels.txt", resize="bilinear")
        )


def processed(values: np.ndarray, mode: str) -> np.ndarray:
    """Float32 RGB pixels as a training script changes them: by Keras' modes, or by hand.

    `numbers` stands for cv2.imread's order with means and deviations of one's own.
    """
    match mode:
        case "none":
            return values
        case "unit":
            return values / 255
        case "numbers":
            return (values[..., ::-1] - np.float32([100, 110, 120])) / np.float32([50, 60, 70])
        case _:
            return keras.applications.imagenet_utils.preprocess_input(values, mode=mode)


@cache
def small_backbone(seed: int = 1, mode: str = "caffe") -> keras.Model:
    """A stem and a residual block, (64, 64, 3) -> (8, 8, 32), calibrated on pixels preprocessed so."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((SIDE, SIDE, 3))
    stem = _convolved(inputs, 16, 4)
    block = keras.layers.Add()([_convolved(stem, 32, 2), keras.layers.Conv2D(32, 1, strides=2)(stem)])
    model = keras.Model(inputs, keras.layers.Activation("relu")(block))
    noise = pixels(16, seed).astype("float32")
    calibrate(model, processed(noise, mode))
    return model


def softmax() -> keras.layers.Layer:
    """A last layer of the classes in LABELS."""
    return keras.layers.Dense(CLASSES, activation="softmax")


def headed(*layers: keras.layers.Layer) -> keras.Model:
    """The small backbone, functional and flat, with these layers on top."""
    base = small_backbone()
    return keras.Model(base.inputs[0], chained(base.output, *layers))


def imagenet_classifier(classes: int = 1000) -> keras.Model:
    """Keras' ResNet50, seeded, calibrated, and as decided as a trained one."""
    keras.utils.set_random_seed(21)
    model = keras.applications.ResNet50(weights=None, classes=classes)
    inputs = keras.applications.resnet50.preprocess_input(pixels(8, side=224).astype("float32"))
    calibrate(model, inputs)
    pooled = keras.Model(model.inputs[0], model.get_layer("avg_pool").output)(inputs).numpy()
    kernel = np.random.default_rng(21).normal(size=(2048, classes)).astype("float32")
    # what all pictures share would drown what tells them apart
    common = pooled.mean(axis=0) / np.linalg.norm(pooled.mean(axis=0))
    kernel -= np.outer(common, common @ kernel)
    kernel *= 3 / (pooled @ kernel).std()
    model.layers[-1].set_weights([kernel, np.linspace(-1, 1, classes)])
    return model


def _convolved(tensor: keras.KerasTensor, filters: int, stride: int) -> keras.KerasTensor:
    tensor = keras.layers.Conv2D(filters, 3, strides=stride, padding="same")(tensor)
    return keras.layers.Activation("relu")(keras.layers.BatchNormalization()(tensor))


def chained(tensor: keras.KerasTensor, *layers: keras.layers.Layer) -> keras.KerasTensor:
    """The layers one after the other, each with weights and batch statistics of its own."""
    for number, layer in enumerate(layers):
        tensor = layer(tensor)
        if isinstance(layer, keras.layers.BatchNormalization):
            rng = np.random.default_rng(number)
            size = tensor.shape[-1]
            scale, shift = rng.uniform(0.5, 1.5, (2, size)), rng.normal(0, 0.3, (2, size))
            layer.set_weights([scale[0], shift[0], shift[1], scale[1]])
    return tensor
