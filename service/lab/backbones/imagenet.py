"""Keras' ResNet50 as two heads: its ImageNet classifier, and an equivalent Flatten head."""

import re
import socket
import sys
import warnings
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path

import keras
import numpy as np

from service.console import say
from service.errors import CommandError

SIZE = (224, 224)
NETWORK_TIMEOUT_S = 10.0  # Seconds of silence. A firewall that drops packets would hold us for minutes.
DOWNLOAD_FAILED = re.compile("URL fetch failure|corrupted file")


def labels() -> tuple[str, ...]:
    """The 1,000 class names, in the order of the outputs."""
    return tuple(
        (files("service.lab.backbones") / "imagenet_labels.txt").read_text("utf-8").splitlines()
    )


def downloaded() -> keras.Model:
    """ResNet50 with Keras' ImageNet weights, from its cache or the network. Raises CommandError."""
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_TIMEOUT_S)
    if not sys.stdout.isatty():
        keras.config.disable_interactive_logging()  # Keras' progress bar is for terminals.
    say("Fetching Keras' ImageNet weights for ResNet50 (103 MB) ...")
    try:
        return keras.applications.ResNet50(weights="imagenet")
    except Exception as exc:  # Keras raises a bare Exception when a download fails
        is_download = isinstance(exc, OSError | HTTPException) or DOWNLOAD_FAILED.search(str(exc))
        if not is_download:
            raise
        raise CommandError("The ImageNet weights cannot be had: their download failed.") from exc
    finally:
        socket.setdefaulttimeout(patience)


def from_file(path: Path) -> keras.Model:
    """ResNet50 with the full weights file of keras.applications. Raises CommandError."""
    if not path.is_file():
        raise CommandError(f"There is no weights file {path}.")
    model = keras.applications.ResNet50(weights=None)
    if _loads(model, path):
        return model
    if _loads(keras.applications.ResNet50(weights=None, include_top=False), path):
        raise CommandError(
            f"{path.name} holds no classifier (a notop file): label images and use `resnet-heads train`."
        )
    raise CommandError(f"{path.name} does not hold the weights of Keras' ResNet50.")


def backbone(full: keras.Model, size: tuple[int, int]) -> keras.Model:
    """The part of `full` up to the last feature map, for another input size (height, width)."""
    bare = _backbone(size)
    features = full.get_layer("conv5_block3_out").output
    bare.set_weights(keras.Model(full.inputs[0], features).get_weights())
    return bare


def backbone_from(path: Path, size: tuple[int, int]) -> keras.Model:
    """The backbone from a weights file of keras.applications, full or notop. Raises CommandError."""
    bare = _backbone(size)
    return bare if _loads(bare, path) else backbone(from_file(path), size)


def untied(gap: keras.Model) -> keras.Model:
    """Replaces GAP by Flatten, with the Dense weights divided by 49 at each of the 7 x 7 positions.

    Both models compute the same, because the mean of a map times w is the sum over positions times w/49.
    """
    features = gap.get_layer("conv5_block3_out").output
    kernel, bias = gap.layers[-1].get_weights()
    positions = features.shape[1] * features.shape[2]
    dense = keras.layers.Dense(kernel.shape[1], activation="softmax", name="predictions")
    model = keras.Model(gap.inputs[0], dense(keras.layers.Flatten(name="flatten")(features)))
    dense.set_weights([np.tile(kernel / positions, (positions, 1)), bias])
    return model


def _backbone(size: tuple[int, int]) -> keras.Model:
    return keras.applications.ResNet50(weights=None, include_top=False, input_shape=(*size, 3))


def _loads(model: keras.Model, path: Path) -> bool:
    """Loads the file into the model, layer by layer. Returns whether its weights fit."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # "layers will retain their ... weights"
            model.load_weights(path)
    except Exception:  # Either that warning, or anything that a broken file makes Keras raise.
        return False
    return True
