"""Preprocesses pixels in Keras, as training scripts do."""

from typing import Any

import keras
import numpy as np

from service.store.card import Preprocessing

KERAS_MODES = ("caffe", "tf", "torch")


def preprocessed(values: Any, how: Preprocessing) -> Any:
    """Float32 RGB pixels (n, height, width, 3) -> what the backbone takes; an array or Keras' tensor."""
    if how.name in KERAS_MODES:  # Keras rounds them in another order than the formula below.
        return keras.applications.imagenet_utils.preprocess_input(values, mode=how.name)
    if how.order == "bgr":
        values = values[..., ::-1]
    if any(how.mean):
        values = values - np.asarray(how.mean, np.float32)
    if how.std != (1, 1, 1):
        values = values / np.asarray(how.std, np.float32)
    return values
