"""The operations of a Keras head: how it computes its logits, and whether it is piecewise linear."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from service.errors import CannotExplain

ENDINGS = ("softmax", "sigmoid")
ACTIVATIONS = (None, keras.activations.linear, keras.activations.relu, keras.activations.leaky_relu)
PIECEWISE_LINEAR = {
    "Activation",
    "AlphaDropout",
    "AveragePooling2D",
    "BatchNormalization",
    "Cast",
    "Dense",
    "Dropout",
    "Flatten",
    "GaussianDropout",
    "GaussianNoise",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "LeakyReLU",
    "MaxPooling2D",
    "PReLU",
    "ReLU",
    "SpatialDropout2D",
}


def operations_of(model: keras.Model) -> tuple[Any, ...]:
    """The operations from feature map to last softmax or sigmoid, inclusive; empty without one."""
    chain = list(_backwards(model))[::-1]
    endings = [at for at, operation in enumerate(chain) if _applied(operation) in ENDINGS]
    return tuple(chain[: endings[-1] + 1]) if endings else ()


def logits_of(chain: Sequence[Any], batch: Any) -> Any:
    """Computes the inputs of the last softmax or sigmoid."""
    if not chain:
        return batch  # Nobody reads this: check_piecewise_linear refuses such a head.
    *before, last = chain
    for operation in before:
        if isinstance(operation, keras.layers.GlobalMaxPooling2D):
            # The gradient of one window goes to the first of equal maxima; that of a reduction is split.
            batch = keras.ops.max_pool(batch, tuple(batch.shape[1:3]))
        batch = operation(batch)
    if not isinstance(last, keras.layers.Dense):
        return batch
    scores = keras.ops.matmul(batch, last.kernel)
    return scores + last.bias if last.use_bias else scores


def check_piecewise_linear(chain: Sequence[Any]) -> None:
    """Raises CannotExplain if the way from feature map to logits is not piecewise linear."""
    if not chain:
        raise CannotExplain("it ends in neither softmax nor sigmoid.")
    for operation in chain[:-1]:
        _check(operation)


def _backwards(model: Any) -> Iterator[Any]:
    """Yields the operations from the output back to the input, through nested models."""
    tensor = model.outputs[0]
    while not isinstance(operation := tensor._keras_history.operation, keras.layers.InputLayer):
        if isinstance(operation, keras.Model):
            yield from _backwards(getattr(operation, "_functional", None) or operation)
        else:
            yield operation
        tensor = operation._inbound_nodes[tensor._keras_history.node_index].input_tensors[0]


def _applied(operation: Any) -> str:
    """The name of the function that an operation applies last: its activation, or its own name."""
    applied = getattr(operation, "activation", None) or operation
    return str(getattr(applied, "__name__", type(applied).__name__)).lower()


def _check(operation: Any) -> None:
    kind, activation = type(operation).__name__, getattr(operation, "activation", None)
    if kind not in PIECEWISE_LINEAR:
        raise CannotExplain(f"it holds {kind}, which is not piecewise linear.")
    if isinstance(operation, keras.layers.ReLU) and (
        operation.max_value is not None or operation.threshold
    ):
        raise CannotExplain("it holds a ReLU with a threshold or a maximum.")
    if isinstance(activation, keras.Layer):
        _check(activation)
    elif activation not in ACTIVATIONS:
        raise CannotExplain(f"it holds {_applied(operation)}, which is not piecewise linear.")
