"""The steps of a backbone that is a flat graph of TensorFlow, as `family` looks at them."""

from collections.abc import Sequence
from dataclasses import replace

import tensorflow as tf

from service.lab.models.saved_model.flattening import FlatGraph
from service.lab.models.structure.family import Step

KINDS = {
    "Add": "add",
    "AddN": "add",
    "AddV2": "add",
    "AvgPool": "average_pool",
    "ConcatV2": "concatenate",
    "Conv2D": "conv",
    "DepthwiseConv2dNative": "depthwise",
    "FusedBatchNormV3": "norm",
    "MaxPool": "max_pool",
    "Mul": "multiply",
}
JOINING = ("Add", "AddN", "AddV2", "Mul", "RealDiv", "Sub")  # With a constant they are no step.
PASSING = ("BiasAdd", "Cast", "Identity", "IdentityN", "Pad", "PadV2", "Reshape", "Squeeze")


def steps_of_graph(flat: FlatGraph, features: tf.Tensor) -> list[Step]:
    """The steps from the first convolution to the feature map."""
    steps: list[Step] = []
    places: dict[tf.Operation, int] = {}  # of the step that made what an operation gives
    for one in flat.between(flat.pixels, features):
        sources = flat.sources(one)
        inputs = tuple(places[source.op] for source in sources if source.op in places)
        if one not in flat.computed or not (inputs or one.type in ("Conv2D", "DepthwiseConv2dNative")):
            continue
        kind = _kind(flat, one, sources)
        if kind == "multiply" and _is_swish(steps, inputs):
            kind = "swish"
        if kind == "separable":
            steps[inputs[0]] = replace(steps[inputs[0]], kind=kind)
        if kind and kind != "separable":
            steps.append(_step(one, kind, inputs))
            inputs = (len(steps) - 1,)
        places[one] = inputs[0]
    return steps


def _step(operation: tf.Operation, kind: str, inputs: tuple[int, ...]) -> Step:
    if kind not in ("conv", "depthwise"):
        return Step(kind, inputs)
    kernel, strides = operation.inputs[1].shape, operation.get_attr("strides")
    return Step(kind, inputs, (int(kernel[0]), int(kernel[1])), (strides[1], strides[2]))


def _kind(flat: FlatGraph, operation: tf.Operation, sources: Sequence[tf.Tensor]) -> str | None:
    """The kind of step that an operation is; None if it only passes values on."""
    types = [source.op.type for source in sources]
    if operation.type in PASSING:
        return None
    if operation.type == "Conv2D" and types == ["DepthwiseConv2dNative"]:
        return "separable"  # Which are two operations, one right after the other.
    if operation.type in JOINING and len(sources) == 1:
        others = (one.op for one in operation.inputs if one.op not in flat.computed)
        return "norm" if operation.type == "Mul" and any(map(_is_deviation, others)) else None
    return KINDS.get(operation.type, str(operation.type).lower())


def _is_swish(steps: Sequence[Step], inputs: tuple[int, ...]) -> bool:
    """Whether one of the inputs is the sigmoid of the other."""
    return any(
        steps[one].kind == "sigmoid" and {*steps[one].inputs} == {*inputs} - {one} for one in inputs
    )


def _is_deviation(operation: tf.Operation) -> bool:
    """Whether weights are divided by a deviation, as Keras 3 writes batch normalization."""
    return operation.type == "Rsqrt" or any(one.op.type == "Rsqrt" for one in operation.inputs)
