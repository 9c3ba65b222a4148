"""Operations of TensorFlow inside a Keras 2 model, as those of Keras 3. Data to data, no Keras.

Keras 2 wrote each as a layer that names a function of TensorFlow (2.4 and later) or holds a node of its
graph (before), as `preprocess_input` inside a model does. The few that are known here compute; nothing
is looked up by a name in the file.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from service.lab.models.saved import Json, Saved, Unloadable

FUNCTIONS = ("TFOpLambda", "SlicingOpLambda")
NODE = "TensorFlowOpLayer"
CONSTANT = "_CONSTANT_VALUE"
FLOATS = {"float32", "float16", "bfloat16", "DT_FLOAT", "DT_HALF", "DT_BFLOAT16"}


@dataclass(frozen=True)
class Operation:
    """A class of Keras, and which arguments of a function become those of its call, in order."""

    class_name: str
    arguments: tuple[str, ...] = ("x", "y")
    module: str = "keras.src.ops.numpy"
    settings: Mapping[str, Json] = field(default_factory=dict)


def _activation(name: str, argument: str) -> Operation:
    return Operation("Activation", (argument,), "keras.layers", {"activation": name})


CAST = Operation("Cast", ("x",), "keras.src.ops.core", {"dtype": "float32"})
OPERATIONS = {
    "__operators__.getitem": Operation("GetItem", ("tensor", "slice_spec")),
    "StridedSlice": Operation("GetItem", ("tensor", "slice_spec")),
    **dict.fromkeys(("__operators__.add", "math.add", "Add", "AddV2"), Operation("Add")),
    **dict.fromkeys(("nn.bias_add", "BiasAdd"), Operation("Add", ("value", "bias"))),
    **dict.fromkeys(("math.subtract", "Sub"), Operation("Subtract")),
    **dict.fromkeys(("math.multiply", "Mul"), Operation("Multiply")),
    **dict.fromkeys(("math.truediv", "math.divide", "RealDiv"), Operation("TrueDivide")),
    **dict.fromkeys(("cast", "Cast"), CAST),
    **dict.fromkeys(("nn.relu", "Relu"), _activation("relu", "features")),
    **dict.fromkeys(("nn.relu6", "Relu6"), _activation("relu6", "features")),
    **dict.fromkeys(("nn.softmax", "Softmax"), _activation("softmax", "logits")),
    **dict.fromkeys(("math.sigmoid", "Sigmoid"), _activation("sigmoid", "x")),
    **dict.fromkeys(("math.tanh", "Tanh"), _activation("tanh", "x")),
    "nn.silu": _activation("silu", "features"),
}
# Arguments that change nothing at these values.
IDLE: Mapping[str, tuple[Json, ...]] = {
    "name": (None,),
    "data_format": (None, "NHWC", "channels_last"),
    "axis": (None, -1),
    "beta": (1,),
}


def is_operation(layer: Saved) -> bool:
    """Whether a layer of a configuration is an operation of TensorFlow."""
    return layer["class_name"] in (*FUNCTIONS, NODE)


def as_keras(layer: Saved) -> Saved:
    """What a layer of a Keras 2 configuration does, as Keras 3 would write it. Raises Unloadable."""
    config = layer["config"]
    node = _node(config) if layer["class_name"] == NODE else None
    function = str(node["op"] if node else config["function"])
    rule = OPERATIONS.get(function)
    if rule is None:
        raise Unloadable(
            f"it holds the operation tf.{function[:60]}, which is not known here; put a layer of "
            "Keras in its place, and save it again."
        )
    if node:
        calls = [_of_node(call, config["constants"], node, rule) for call in layer["inbound_nodes"]]
    else:
        calls = [_of_function(call, function, rule) for call in layer["inbound_nodes"]]
    return {
        "module": rule.module,
        "class_name": rule.class_name,
        "config": {"name": str(config["name"]).replace("/", "_"), **rule.settings},
        "registered_name": None,
        "name": layer["name"],
        "inbound_nodes": [{"args": [*map(_argument, args)], "kwargs": {}} for args in calls],
    }


def _of_function(call: list[Json], function: str, rule: Operation) -> list[Json]:
    """The arguments of a call of a function, by its names."""
    reference = call[0] if isinstance(call[0], list) else call
    name, _, value, given = reference
    given = given | {rule.arguments[0]: value if name == CONSTANT else reference[:3]}
    args = [given.pop(one) for one in rule.arguments]
    if rule is CAST:
        _check_float(given.pop("dtype"))
    for key, value in given.items():
        if value not in IDLE.get(key, ()):
            raise Unloadable(f"it calls tf.{function} with {key[:40]}, which is not known here.")
    return args


def _node(config: Mapping[str, Json]) -> Mapping[str, Json]:
    found = config["node_def"]
    node: Mapping[str, Json] = json.loads(found) if isinstance(found, str) else found
    return node


def _of_node(
    call: list[Json], constants: Mapping[str, Json], node: Mapping[str, Json], rule: Operation
) -> list[Json]:
    """The arguments of a node: its constants at their places, and tensors at the others."""
    attributes = node["attr"]
    if rule is CAST:
        _check_float(attributes["DstT"]["type"])
    if attributes.get("data_format", {}).get("s") not in (None, "TkhXQw=="):  # NHWC
        raise Unloadable("it holds an operation of TensorFlow on channels_first.")
    if rule.class_name == "GetItem":
        return [call[0][:3], list(_index(constants, attributes))]
    tensors = iter(call)
    return [
        constants[str(at)] if str(at) in constants else next(tensors)[:3]
        for at in range(len(rule.arguments))
    ]


def _index(constants: Mapping[str, Json], attributes: Mapping[str, Json]) -> Iterator[Json]:
    """The index of a StridedSlice, a part for each dimension."""

    def is_set(mask: str, at: int) -> bool:
        return bool(int(attributes.get(mask, {}).get("i", 0)) >> at & 1)

    for at, (start, stop, step) in enumerate(
        zip(constants["1"], constants["2"], constants["3"], strict=True)
    ):
        if is_set("new_axis_mask", at) or is_set("shrink_axis_mask", at):
            raise Unloadable("it takes a slice of a tensor in a way that is not known here.")
        if is_set("ellipsis_mask", at):
            yield {"class_name": "__ellipsis__"}
        else:
            yield {
                "start": None if is_set("begin_mask", at) else start,
                "stop": None if is_set("end_mask", at) else stop,
                "step": step,
            }


def _check_float(dtype: Json) -> None:
    if dtype not in FLOATS:
        raise Unloadable("it casts to a type that is no float.")


def _argument(value: Json) -> Json:
    """A tensor, a number, a constant array or an index, as Keras 3 writes them."""
    match value:
        case [str(name), int(node), int(at)]:
            place = {"shape": [None], "dtype": "float32", "keras_history": [name, node, at]}
            return {"class_name": "__keras_tensor__", "config": place}
        case {"class_name": "__ellipsis__"}:
            return {"class_name": "__ellipsis__", "config": {}}
        case {"start": _, "stop": _, "step": _}:
            return {"class_name": "__slice__", "config": value}
        case [*parts] if any(isinstance(one, dict) for one in parts):
            return [_argument(one) for one in parts]
        case [*_]:
            return {"class_name": "__numpy__", "config": {"value": value, "dtype": "float32"}}
    if isinstance(value, int | float):
        return value
    raise Unloadable("it holds an operation of TensorFlow with an argument that is not known here.")
