"""Keras' operations in a flat graph: their order, what each takes, and its activation."""

from typing import Any

import keras

ACTIVATIONS = ("ELU", "LeakyReLU", "PReLU", "ReLU", "Relu", "Sigmoid", "Softmax")


def nodes_of(flat: keras.Model) -> list[Any]:
    """Every call of an operation, each after those whose results it takes."""
    by_depth = sorted(flat._nodes_by_depth.items(), reverse=True)
    return [node for _, nodes in by_depth for node in nodes if not node.is_input]


def kind_of(operation: Any) -> str:
    """The name of its class; a layer and the function of keras.ops that does the same may share one."""
    return type(operation).__name__


def named(operation: Any) -> str:
    """What to call an operation in a sentence."""
    return f"{kind_of(operation)[:40]} {operation.name[:60]!r}"


def call_of(tensor: Any) -> Any:
    """The call that made a tensor."""
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


def activation_of(operation: Any) -> str:
    """The name of what an operation applies last; `linear` for operations without activation."""
    if kind_of(operation) in ACTIVATIONS:
        return kind_of(operation).lower()
    function = getattr(operation, "activation", None) or keras.activations.linear
    # An activation may be a layer instead of a function: Dense(5, activation=Softmax()).
    return getattr(function, "__name__", kind_of(function).lower())
