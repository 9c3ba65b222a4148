"""Reads the layers of a head from its Keras model, and computes its logits."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from service.errors import CannotExplain
from service.serving.explain.layers import Affine, Dense, Layer, Pooled, Rectified, Reshaped, windows

ENDINGS = ("softmax", "sigmoid")
SLOPES = {keras.activations.relu: 0.0, keras.activations.leaky_relu: 0.2}


class Step(NamedTuple):
    """One layer or operation of a chain; shapes do not include the batch axis."""

    operation: Any
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


def steps_of(model: keras.Model) -> tuple[Step, ...]:
    """The steps from the feature map to the last softmax or sigmoid, inclusive; empty without one."""
    steps = list(_chain(model))[::-1]
    endings = [at for at, step in enumerate(steps) if _applied(step.operation) in ENDINGS]
    return tuple(steps[: endings[-1] + 1]) if endings else ()


def logits_of(steps: Sequence[Step], batch: Any) -> Any:
    """Computes the inputs of the last softmax or sigmoid."""
    if not steps:
        return batch  # Nobody reads this: layers_of refuses such a head.
    *before, last = steps
    for step in before:
        batch = step.operation(batch)
    if not isinstance(dense := last.operation, keras.layers.Dense):
        return batch
    scores = keras.ops.matmul(batch, dense.kernel)
    return scores + dense.bias if dense.use_bias else scores


def layers_of(steps: Sequence[Step]) -> tuple[Layer, ...]:
    """The layers from feature map to logits. Raises CannotExplain if one is not piecewise linear."""
    if not steps:
        raise CannotExplain("it ends in neither softmax nor sigmoid.")
    *before, last = steps
    layers = [layer for step in before for layer in _read(step)]
    return (*layers, *(_weighed(last) if isinstance(last.operation, keras.layers.Dense) else ()))


def _chain(model: Any) -> Iterator[Step]:
    """Yields the steps from the output back to the input, through nested models."""
    tensor = model.outputs[0]
    while not isinstance(operation := tensor._keras_history.operation, keras.layers.InputLayer):
        source = operation._inbound_nodes[tensor._keras_history.node_index].input_tensors[0]
        if isinstance(operation, keras.Model):
            yield from _chain(getattr(operation, "_functional", None) or operation)
        else:
            yield Step(operation, source.shape[1:], tensor.shape[1:])
        tensor = source


def _applied(operation: Any) -> str:
    """The name of the function that an operation applies last: its activation, or its own name."""
    applied = getattr(operation, "activation", None) or operation
    return str(getattr(applied, "__name__", type(applied).__name__)).lower()


def _read(step: Step) -> Sequence[Layer]:
    kind = type(step.operation).__name__
    if kind not in READERS:
        raise CannotExplain(f"it holds {kind}, which is not piecewise linear.")
    return READERS[kind](step)


def _weighed(step: Step) -> Sequence[Layer]:
    dense = step.operation
    return [
        Dense(dense.kernel.numpy().T, dense.bias.numpy() if dense.use_bias else np.zeros(1, np.float32))
    ]


def _dense(step: Step) -> Sequence[Layer]:
    return [*_weighed(step), *_activated(step)]


def _activated(step: Step) -> Sequence[Layer]:
    """The layers for a layer's activation, which is a function of Keras or another layer."""
    activation = step.operation.activation
    if isinstance(activation, keras.Layer):
        return _read(step._replace(operation=activation))
    if activation is keras.activations.linear:
        return []
    if activation not in SLOPES:
        raise CannotExplain(f"it holds {_applied(step.operation)}, which is not piecewise linear.")
    return [Rectified(np.full(1, SLOPES[activation], np.float32))]


def _relu(step: Step) -> Sequence[Layer]:
    if step.operation.max_value is not None or step.operation.threshold:
        raise CannotExplain("it holds a ReLU with a threshold or a maximum.")
    return _leaky(step)


def _leaky(step: Step) -> Sequence[Layer]:
    return [Rectified(np.full(1, step.operation.negative_slope, np.float32))]


def _parametric(step: Step) -> Sequence[Layer]:
    return [Rectified(step.operation.alpha.numpy())]


def _normalized(step: Step) -> Sequence[Layer]:
    norm = step.operation
    mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    scale = (norm.gamma.numpy() if norm.scale else 1) / np.sqrt(variance + norm.epsilon)
    return [Affine(scale, (norm.beta.numpy() if norm.center else 0) - mean * scale)]


def _global(is_average: bool) -> Callable[[Step], Sequence[Layer]]:
    def read(step: Step) -> Sequence[Layer]:
        rows, columns = ((slice(0, size),) for size in step.input_shape[:2])
        return [Pooled(is_average, 0, rows, columns), Reshaped(step.output_shape)]

    return read


def _windowed(is_average: bool) -> Callable[[Step], Sequence[Layer]]:
    def read(step: Step) -> Sequence[Layer]:
        pool = step.operation
        sizes = zip(
            step.input_shape[:2], pool.pool_size, pool.strides, step.output_shape[:2], strict=True
        )
        rows, columns = (_windows(pool.padding, *along) for along in sizes)
        return [Pooled(is_average, 0, rows, columns)]

    return read


def _windows(padding: str, size: int, side: int, stride: int, outputs: int) -> tuple[slice, ...]:
    """The windows along one axis. TensorFlow's `same` pads an odd row after the map, not before."""
    missing = max((outputs - 1) * stride + side - size, 0) if padding == "same" else 0
    return windows(size, side, stride, outputs, missing // 2)


def _reshaped(step: Step) -> Sequence[Layer]:
    return [Reshaped(step.output_shape)]


def _nothing(_: Step) -> Sequence[Layer]:
    return []


READERS: dict[str, Callable[[Step], Sequence[Layer]]] = {
    "Activation": _activated,
    "AlphaDropout": _nothing,
    "AveragePooling2D": _windowed(is_average=True),
    "BatchNormalization": _normalized,
    "Cast": _nothing,
    "Dense": _dense,
    "Dropout": _nothing,
    "Flatten": _reshaped,
    "GaussianDropout": _nothing,
    "GaussianNoise": _nothing,
    "GlobalAveragePooling2D": _global(is_average=True),
    "GlobalMaxPooling2D": _global(is_average=False),
    "LeakyReLU": _leaky,
    "MaxPooling2D": _windowed(is_average=False),
    "PReLU": _parametric,
    "ReLU": _relu,
    "SpatialDropout2D": _nothing,
}
