"""Writes small models as old frameworks save them, and as NAME.json the answers that these give.

usage: python tests/cases/old_models.py tests/cases/models, with the Python of an environment that holds
one of them: TensorFlow 2.15.1, 2.12.1, 2.4.4 or 2.3.4 (with protobuf 3.20.3), Keras 2.3.1 on TensorFlow
1.15.5 (with h5py 2.10.0), Keras 3.3.3 or 3.8.0 on TensorFlow 2.16.2. Python 3.7 must run it.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

VERSION = ".".join(tf.__version__.split(".")[:2])
if VERSION in ("1.15", "2.16"):
    import keras

    VERSION = keras.__version__
    MAKER = f"Keras {VERSION} on"
else:
    keras = tf.keras
    MAKER = "tf.keras of"
L = keras.layers
OLD_NAMES = getattr(getattr(L, "experimental", None), "preprocessing", None)
SIDE = 64
LABELS = ["daisy", "dandelion", "roses"]


def layer(name):
    """A class that was experimental before TensorFlow 2.6."""
    return getattr(L, name, None) or getattr(OLD_NAMES, name)


def backbone(name="base", slash="_"):
    """Three blocks, so that many weights have equal shapes."""
    x = inputs = L.Input((SIDE, SIDE, 3))
    for block in range(3):
        y = L.Conv2D(
            8, 3, strides=4 if block == 0 else 2, padding="same", name=f"conv{block}{slash}conv"
        )(x)
        y = L.BatchNormalization(name=f"conv{block}{slash}bn")(y)
        y = L.ReLU(6.0)(y)
        if block:
            y = L.DepthwiseConv2D(3, padding="same")(y)
            y = L.Add()([y, L.SeparableConv2D(8, 3, strides=2, padding="same", use_bias=block == 1)(x)])
        x = y
    return keras.Model(inputs, x, name=name)


def head(features):
    x = L.GlobalAveragePooling2D()(features)
    return L.Dense(len(LABELS), activation="softmax")(L.Dropout(0.2)(x))


def inside(preprocess):
    inputs = L.Input((SIDE, SIDE, 3))
    return keras.Model(inputs, head(backbone()(preprocess(inputs))))


def partly_frozen():
    base = backbone()
    base.trainable = False
    for at in (1, 4, -2):
        base.layers[at].trainable = True
    inner = keras.Sequential([base, L.Conv2D(8, 1), L.BatchNormalization()])
    inputs = L.Input((SIDE, SIDE, 3))
    return keras.Model(inputs, head(inner(inputs)))


def slashes():
    base = backbone(slash="/")
    return keras.Model(base.input, head(base.output))


def caffe():
    return inside(keras.applications.resnet50.preprocess_input)


def torch():
    return inside(lambda x: keras.applications.imagenet_utils.preprocess_input(x, mode="torch"))


def arithmetic():
    return inside(lambda x: 1.0 - 2.0 * (x / 255.0))


def augmented():
    x = inputs = L.Input((None, None, 3))
    for name in ("RandomHeight", "RandomWidth"):
        x = layer(name)(0.1)(x)
    x = layer("Resizing")(SIDE, SIDE)(x)
    for name in ("RandomFlip", "RandomContrast"):
        x = layer(name)(*[0.1] * (name != "RandomFlip"))(x)
    normalization = layer("Normalization")()
    normalization.adapt(np.random.RandomState(5).uniform(0, 255, (8, SIDE, SIDE, 3)).astype("float32"))
    x = L.Conv2D(8, 3, activation=L.LeakyReLU(0.2), strides=4)(normalization(x))
    return keras.Model(inputs, head(x))


def cropped():
    x = inputs = L.Input((SIDE, SIDE, 3))
    x = L.Conv2D(8, 3, strides=4)(layer("RandomCrop")(40, 48)(x))
    return keras.Model(inputs, head(x))


def no_input_layer():
    model = keras.Sequential()
    model.add(L.Conv2D(8, 3, strides=4, activation="relu", input_shape=(SIDE, SIDE, 3)))
    model.add(L.SpatialDropout2D(0.1))
    model.add(L.PReLU(shared_axes=[1, 2]))
    model.add(L.Flatten())
    model.add(L.Dense(len(LABELS), activation="softmax", kernel_regularizer=keras.regularizers.l2(1e-3)))
    return model


# By version: the name of the framework, and which models it saves how.
H5, KERAS, PARTS = "h5", "keras", "parts"
MADE = {
    "2.3.1": ("k231", [(partly_frozen, H5), (no_input_layer, H5)]),
    "2.3": ("tf23", [(caffe, H5), (torch, H5), (augmented, H5)]),
    "2.4": ("tf24", [(arithmetic, H5), (augmented, H5)]),
    "2.12": ("tf212", [(slashes, H5), (partly_frozen, "keras_v3"), (caffe, KERAS)]),
    "2.15": (
        "tf215",
        [
            (partly_frozen, H5),
            (partly_frozen, PARTS),
            (torch, KERAS),
            (slashes, KERAS),
            (augmented, KERAS),
            (cropped, H5),
        ],
    ),
    "3.3.3": ("k333", [(caffe, H5), (partly_frozen, PARTS), (cropped, KERAS)]),
    "3.8.0": ("k380", [(partly_frozen, H5), (partly_frozen, KERAS)]),
}


def seeded(model):
    """Weights that all differ, and answers that are not decided."""
    rng = np.random.RandomState(7)
    new = []
    for weight in map(np.asarray, model.get_weights()):
        if weight.dtype.kind != "f" or weight.shape in ((3,), ()):
            new.append(weight)
        elif weight.ndim > 1:
            new.append(
                (rng.randn(*weight.shape) * np.sqrt(1.6 / np.prod(weight.shape[:-1]))).astype("float32")
            )
        else:
            new.append(rng.uniform(0.5, 1.5, weight.shape).astype("float32"))
    first = next(at for at, weight in enumerate(new) if weight.ndim > 1)
    new[first] = new[first] / 100  # pixels are large
    model.set_weights(new)
    return model


def save(model, folder, name, how):
    """Writes the model; returns the name of the file, which holds its weights at least."""
    if how != PARTS:
        file = name + (".h5" if how == H5 else ".keras")
        model.save(str(folder / file), **({"save_format": how} if how == "keras_v3" else {}))
        return file
    file = name + (".weights.h5" if VERSION[0] == "3" else ".h5")
    model.save_weights(str(folder / file))
    (folder / (name + ".architecture.json")).write_text(model.to_json())
    return file


def main():
    folder = Path(sys.argv[1])
    files = [folder / "pictures" / (f"{SIDE}-{at}.png") for at in range(3)]
    pictures = np.stack([np.asarray(Image.open(str(file))) for file in files]).astype("float32")
    tag, cases = MADE[VERSION]
    for build, how in cases:
        keras.backend.clear_session()
        model = seeded(build())
        name = "-".join((tag, build.__name__, how)).replace("_", "-")
        spec = {
            "file": save(model, folder, name, how),
            "made": f"{MAKER} TensorFlow {tf.__version__}, tests/cases/old_models.py",
            "size": SIDE,
            "pixels": "none",
            "labels": LABELS,
            "should": {"result": "served", "within": 1e-4},
            "probabilities": np.asarray(model.predict(pictures)).tolist(),
        }
        (folder / (name + ".json")).write_text(json.dumps(spec, indent=1) + "\n")
        print(name, spec["probabilities"][0])


main()
