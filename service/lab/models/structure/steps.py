"""The steps of a backbone that is a flat Keras model, as `family` looks at them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import keras

from service.lab.models.structure.family import Step
from service.lab.models.structure.operations import activation_of, kind_of, nodes_of

KINDS = {
    "Add": "add",
    "AveragePooling2D": "average_pool",
    "BatchNormalization": "norm",
    "Concatenate": "concatenate",
    "Conv2D": "conv",
    "DepthwiseConv2D": "depthwise",
    "LayerNormalization": "layer_norm",
    "MaxPooling2D": "max_pool",
    "Multiply": "multiply",
    "SeparableConv2D": "separable",
}
CONVOLUTIONS = ("conv", "depthwise", "separable")
PASSING = ("ActivityRegularization", "Cast", "Dropout", "Identity", "SpatialDropout2D", "ZeroPadding2D")


def steps_of(backbone: keras.Model) -> list[Step]:
    """The steps from the first convolution on."""
    steps: list[Step] = []
    places: dict[int, int] = {}  # of the step that made a tensor, by the tensor's id
    for node in nodes_of(backbone):
        inputs = tuple(places[id(tensor)] for tensor in node.input_tensors if id(tensor) in places)
        for step in _steps(node.operation):
            if inputs or step.kind in CONVOLUTIONS:
                steps.append(replace(step, inputs=inputs))
                inputs = (len(steps) - 1,)
        if inputs:
            places.update({id(tensor): inputs[0] for tensor in node.output_tensors})
    return steps


def _steps(operation: Any) -> Iterator[Step]:
    """An operation as a step, and its activation as another."""
    kind, activation = KINDS.get(kind_of(operation)), _activation(operation)
    if kind in CONVOLUTIONS:
        is_by_channel = kind == "conv" and operation.groups == operation.filters > 1
        yield Step(
            "depthwise" if is_by_channel else str(kind),
            kernel=tuple(operation.kernel_size),
            strides=tuple(operation.strides),
        )
    elif kind:
        yield Step(kind)
    elif activation == "linear" and kind_of(operation) not in (*PASSING, "Activation"):
        yield Step(kind_of(operation).lower())
    if activation != "linear":
        yield Step(activation)


def _activation(operation: Any) -> str:
    is_clipped = getattr(operation, "max_value", None) == 6  # noqa: PLR2004 (ReLU6)
    return "relu6" if is_clipped else activation_of(operation)
