"""The reference runtime, and the one for GPUs. The only module outside lab/ that imports TensorFlow."""

import service.serving.engines.quiet_tensorflow  # noqa: F401 (before Keras)

# isort: split

import contextlib
import textwrap
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from service.errors import VersionError
from service.serving.engines import EngineName

NETWORK = "network.keras"


class KerasNetwork:
    """One model as one TensorFlow function, traced once for every batch size."""

    def __init__(self, model: keras.Model) -> None:
        source = model.inputs[0]
        signature = [tf.TensorSpec((None, *source.shape[1:]), source.dtype)]
        self._function = tf.function(
            lambda batch: model(batch, training=False), input_signature=signature
        )

    def __call__(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = self._function(tf.convert_to_tensor(batch)).numpy()
        return result


class KerasEngine:
    """Keras on TensorFlow, float32, on a GPU where there is one, else on `threads` threads."""

    name: EngineName = "keras"

    def __init__(self, threads: int) -> None:
        with contextlib.suppress(RuntimeError):  # once TensorFlow has started, its threads are set
            tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.experimental.enable_tensor_float_32_execution(False)  # 1e-3 away from float32

    def open(self, folder: Path) -> KerasNetwork:
        """Loads `folder`/network.keras in safe mode."""
        try:
            return KerasNetwork(keras.models.load_model(folder / NETWORK, compile=False, safe_mode=True))
        except Exception as exc:  # whatever the file makes Keras stumble on
            raise VersionError(f"Keras cannot open it: {textwrap.shorten(str(exc), 200)}") from exc
