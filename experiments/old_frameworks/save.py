"""Saves a real ResNet50 as people save it, and the answers that the framework of this environment gives.

usage: python save.py SHAPE FOLDER, with FOLDER/*.png of the right size. Python 3.7 must run it.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

if tf.__version__.startswith(("1.15", "2.16")):
    import keras
else:
    keras = tf.keras
L = keras.layers
SIDE, CLASSES = 224, 10


def base(**options):
    return keras.applications.ResNet50(include_top=False, weights=None, **options)


def flatten_h5(folder):
    """Keras' own example of 2019: the functional model, with dense layers on Flatten."""
    network = base(input_shape=(SIDE, SIDE, 3))
    x = L.Dense(64, activation="relu")(L.Flatten()(network.output))
    return keras.Model(network.input, L.Dense(CLASSES, activation="softmax")(x)), folder / "model.h5"


def sequential_h5(folder):
    layers = [base(input_shape=(SIDE, SIDE, 3)), L.GlobalAveragePooling2D(), L.Dropout(0.3)]
    return keras.Sequential([*layers, L.Dense(CLASSES, activation="softmax")]), folder / "model.h5"


def nested(preprocess):
    """The functional model of the transfer learning tutorial."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = preprocess(L.RandomFlip("horizontal")(inputs))
    x = L.GlobalAveragePooling2D()(base(input_shape=(SIDE, SIDE, 3))(x, training=False))
    return keras.Model(inputs, L.Dense(CLASSES, activation="softmax")(L.Dropout(0.2)(x)))


def nested_keras(folder):
    return nested(lambda x: x), folder / "model.keras"


def nested_folder(folder):
    """With preprocessing inside, which TensorFlow 2.15 cannot save as `.keras`."""
    return nested(keras.applications.resnet50.preprocess_input), folder / "model"


def sequential_keras(folder):
    layers = [keras.Input((SIDE, SIDE, 3)), base(pooling="avg")]
    return keras.Sequential([*layers, L.Dense(CLASSES, activation="softmax")]), folder / "model.keras"


PIXELS = {
    "none": lambda x: x,
    "unit": lambda x: x / 255.0,
    "caffe": lambda x: keras.applications.resnet50.preprocess_input(x.copy()),
}
SHAPES = {
    "flatten-h5": (flatten_h5, "caffe"),
    "sequential-h5": (sequential_h5, "unit"),
    "nested-keras": (nested_keras, "caffe"),
    "nested-folder": (nested_folder, "none"),
    "sequential-keras": (sequential_keras, "unit"),
}


def spread(model, pixels):
    """Scales the last layer, so that scores differ by about one between pictures."""
    last = model.layers[-1]
    kernel, bias = last.get_weights()
    scores = keras.Model(model.inputs, last.input).predict(pixels) @ kernel
    mean = scores.mean(0)
    scale = 1 / (scores - mean).std()
    last.set_weights([kernel * scale, bias - mean * scale])


def main():
    shape, folder = sys.argv[1], Path(sys.argv[2])
    build, pixels = SHAPES[shape]
    files = sorted(folder.glob("*.png"))
    pictures = np.stack([np.asarray(Image.open(str(one))) for one in files]).astype("float32")
    pictures = PIXELS[pixels](pictures)
    model, path = build(folder)
    spread(model, pictures)
    model.save(str(path))
    saved = {
        "file": path.name,
        "pixels": pixels,
        "answers": np.asarray(model.predict(pictures)).tolist(),
    }
    (folder / "saved.json").write_text(json.dumps(saved))


main()
