"""The operations of a Keras head: how it computes its logits, and whether it is piecewise linear."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import keras

from service.errors import CannotExplain

ENDINGS = ("softmax", "sigmoid")
AFTER_ENDING = (
    *("Cast", "Concatenate", "Flatten", "Identity", "Reshape", "Subtract"),
    *("ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise"),
)
ACTIVATIONS = (None, keras.activations.linear, keras.activations.relu, keras.activations.leaky_relu)
PIECEWISE_LINEAR = {
    "Activation",
    "ActivityRegularization",
    "Add",
    "AlphaDropout",
    "Average",
    "AveragePooling2D",
    "BatchNormalization",
    "Cast",
    "Concatenate",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GaussianDropout",
    "GaussianNoise",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "Identity",
    "LeakyReLU",
    "MaxPooling2D",
    "PReLU",
    "Permute",
    "ReLU",
    "Relu",
    "Rescaling",
    "Reshape",
    "SpatialDropout2D",
}


class Logits:
    """The part of a head up to the inputs of its one softmax or sigmoid; branches may join before it."""

    def __init__(self, model: keras.Model) -> None:
        self._graph = _graph_of(model)
        self._ending = _ending_of(self._graph)

    def __call__(self, batch: Any) -> Any:
        """Computes the logits (n, units) of features (n, height, width, channels)."""
        if self._ending is None:
            return batch  # Nobody reads this: `check_piecewise_linear` refuses such a head.
        logits: list[Any] = []

        def ended(given: Any, **how: Any) -> Any:
            logits.append(_before_activation(self._ending, given))
            return self._ending(given, **how)  # type: ignore[misc]  # it is there

        def computed(operation: Any) -> Callable[..., Any]:
            if isinstance(operation, keras.Model):
                return lambda given, *_, **__: _run(_graph_of(operation), given, computed)
            if operation is self._ending:
                return ended
            if isinstance(operation, keras.layers.GlobalMaxPooling2D):
                return lambda given, **how: operation(_of_first_maxima(given), **how)
            return operation  # type: ignore[no-any-return]  # Keras has no types

        _run(self._graph, batch, computed)
        return keras.ops.reshape(logits[-1], (-1, math.prod(logits[-1].shape[1:])))

    def check_piecewise_linear(self) -> None:
        """Raises CannotExplain if the way from feature map to logits is not piecewise linear."""
        if self._ending is None:
            raise CannotExplain("it does not end in one softmax or one sigmoid.")
        operations = list(_operations(self._graph))
        *before, _ = operations[: len(operations) - operations[::-1].index(self._ending)]
        for operation in before:
            _check(operation)


def _graph_of(model: Any) -> Any:
    """The functional graph of a model; a Sequential model holds one inside."""
    return getattr(model, "_functional", None) or model


def _run(graph: Any, inputs: Any, computed: Callable[[Any], Callable[..., Any]]) -> Any:
    result = graph._run_through_graph(inputs, operation_fn=computed)
    return result[0] if isinstance(result, list) and len(result) == 1 else result


def _operations(graph: Any) -> Iterator[Any]:
    """Yields the operations in the order of computing, through nested models."""
    for _, nodes in sorted(graph._nodes_by_depth.items(), reverse=True):
        for node in nodes:
            if isinstance(node.operation, keras.Model):
                yield from _operations(_graph_of(node.operation))
            elif not node.is_input:
                yield node.operation


def _ending_of(graph: Any) -> Any | None:
    """The one softmax or sigmoid whose results are the output; None without, and of several."""
    found: dict[int, Any] = {}
    seen: set[int] = set()
    waiting = [graph.outputs[0]._keras_history]
    while waiting:
        operation, index, _ = waiting.pop()
        node = operation._inbound_nodes[index]
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(operation, keras.Model):
            waiting.append(_graph_of(operation).outputs[0]._keras_history)
        elif _applied(operation) in ENDINGS:
            found[id(node)] = operation
        elif type(operation).__name__ in AFTER_ENDING:
            waiting += [tensor._keras_history for tensor in node.input_tensors]
        else:
            return None
    return found.popitem()[1] if len(found) == 1 else None


def _of_first_maxima(given: Any) -> Any:
    """A map (n, 1, 1, channels) of maxima whose gradients go to the first of equal ones.

    The gradient of a reduction is split among them.
    """
    return keras.ops.max_pool(given, tuple(given.shape[1:3]))


def _before_activation(operation: Any, given: Any) -> Any:
    """What the activation of an operation is applied to."""
    if isinstance(operation, keras.layers.Dense):
        scores = keras.ops.matmul(given, operation.kernel)
    elif isinstance(operation, keras.layers.Conv2D):
        scores = operation.convolution_op(given, operation.kernel)
    else:
        return given
    return scores + operation.bias if operation.use_bias else scores


def _applied(operation: Any) -> str:
    """The name of the function that an operation applies last: its activation, or its own name."""
    applied = getattr(operation, "activation", None) or operation
    return str(getattr(applied, "__name__", type(applied).__name__)).lower()


def _check(operation: Any) -> None:
    kind, activation = type(operation).__name__, getattr(operation, "activation", None)
    if kind not in PIECEWISE_LINEAR:
        raise CannotExplain(f"it holds {kind}, which is not piecewise linear.")
    limits = (getattr(operation, "max_value", None), getattr(operation, "threshold", None) or None)
    if kind == "ReLU" and limits != (None, None):
        raise CannotExplain("it holds a ReLU with a threshold or a maximum.")
    if isinstance(activation, keras.Layer):
        _check(activation)
    elif activation not in ACTIVATIONS:
        raise CannotExplain(f"it holds {_applied(operation)}, which is not piecewise linear.")
