"""The reference engine, and the one for GPUs. The only module outside lab/ that imports TensorFlow."""

import service.serving.engines.quiet_tensorflow  # noqa: F401 (before Keras)

# isort: split

import contextlib
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from service.errors import VersionError
from service.serving.engines import EngineName
from service.serving.engines.keras_layers import Logits
from service.serving.explain.layers import Array, Layer, total
from service.store.card import Precision

NETWORK = "network.keras"


class KerasNetwork:
    """A model as one TensorFlow function, traced once for every batch size."""

    def __init__(self, model: keras.Model) -> None:
        self._function = _traced(model, lambda batch: model(batch, training=False))

    def __call__(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = self._function(tf.convert_to_tensor(batch)).numpy()
        return result

    def another(self) -> "KerasNetwork":
        return self  # A TensorFlow function takes calls from any thread.


class KerasHead:
    """A head as one TensorFlow function, which also returns its logits."""

    def __init__(self, model: keras.Model) -> None:
        self._logits_of = Logits(model)
        self._function = _traced(
            model, lambda batch: (model(batch, training=False), self._logits_of(batch))
        )
        self._logits = np.empty(0, np.float32)

    def __call__(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        result, logits = self._function(tf.convert_to_tensor(batch))
        self._logits = logits.numpy()
        probabilities: NDArray[np.float32] = result.numpy()
        return probabilities

    def logits(self) -> NDArray[np.float32]:
        return self._logits

    @cached_property
    def layers(self) -> Sequence[Layer]:
        self._logits_of.check_piecewise_linear()
        return (Operations(self._logits_of),)


@dataclass(frozen=True, eq=False)
class Operations:
    """Piecewise linear operations, as one layer whose gradients TensorFlow computes."""

    logits_of: Logits

    def forward(self, x: Array) -> Array:
        logits: Array = self.logits_of(tf.constant(x[np.newaxis]))[0].numpy()
        return logits

    def pull(self, weights: Array, x: Array, /) -> tuple[Array, float]:
        batch = tf.constant(x[np.newaxis])
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(batch)
            logits = self.logits_of(batch)
        pulled = tape.gradient(logits, batch, weights[np.newaxis])[0].numpy()
        return pulled, total(weights * logits[0].numpy()) - total(pulled * x)


class KerasEngine:
    """Keras on TensorFlow, float32, on a GPU where there is one, else on `threads` threads."""

    name: EngineName = "keras"

    def __init__(self, threads: int) -> None:
        # TensorFlow refuses to change its threads once it has started.
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(threads)
        # TensorFloat-32 is 1e-3 away from float32.
        tf.config.experimental.enable_tensor_float_32_execution(False)

    def computes_in(self, precision: Precision) -> Precision:
        """The same: the store gives this engine no other than f32."""
        return precision

    def open(
        self,
        folder: Path,
        precision: Precision = "f32",  # noqa: ARG002 (the store gives this engine no other)
    ) -> KerasNetwork:
        """Loads `folder`/network.keras in safe mode."""
        return KerasNetwork(_load(folder))

    def open_head(self, folder: Path) -> KerasHead:
        """Loads the same file, with the layers that explain the head's answers."""
        return KerasHead(_load(folder))


def _load(folder: Path) -> keras.Model:
    try:
        return keras.models.load_model(folder / NETWORK, compile=False, safe_mode=True)
    except Exception as exc:  # A broken file may make Keras raise anything.
        raise VersionError(f"Keras cannot open it: {textwrap.shorten(str(exc), 200)}") from exc


def _traced(model: keras.Model, function: Callable[[Any], Any]) -> Any:
    source = model.inputs[0]
    signature = [tf.TensorSpec((None, *source.shape[1:]), source.dtype)]
    return tf.function(function, input_signature=signature, autograph=False)
