"""Corrects the configuration of a saved model, which is data, from any Keras to today's. No Keras here.

`modernised` walks the models and layers of a configuration once; `layer_changes` says what changed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from service.lab.models.saved import Json, Saved, Unloadable
from service.lab.models.saved.calls import (
    GRAPH_KEYS,
    check_calls,
    children,
    is_fed_by,
    is_graph,
    is_stack,
    layers_of,
    renumbered,
    without_options,
)
from service.lab.models.saved.layer_changes import KERAS_3, Version, alone, name_today, today
from service.lab.models.saved.tf_operations import as_keras, is_operation

MAX_DEPTH = 100
HALF = {"mixed_float16": "float32", "mixed_bfloat16": "float32"}
KERAS_2_MODULES = ("keras", "tf_keras", "tensorflow.")
FORGOTTEN = ("build_config", "shared_object_id")
# Where Keras 3 has its operations, whose module `.h5` files do not name; the others are those of NumPy.
OPERATION_MODULES = {"Cast": "keras.src.ops.core"} | dict.fromkeys(
    ("Relu", "Relu6", "Softmax", "Sigmoid", "Silu"), "keras.src.ops.nn"
)
# They read files, or run code that is not Keras'.
DANGEROUS = {
    "TFSMLayer",
    "TorchModuleWrapper",
    "JaxLayer",
    "FlaxLayer",
    "StringLookup",
    "IntegerLookup",
    "TextVectorization",
}


def parsed(text: str | bytes) -> Saved:
    """The configuration in a JSON text. Raises Unloadable."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise Unloadable("its configuration is no JSON, or a damaged one.") from exc
    if not isinstance(config, dict) or not isinstance(config.get("class_name"), str):
        raise Unloadable("its configuration is that of no model.")
    _check_nodes(config)
    return config


def _check_nodes(config: Json) -> None:
    """Raises Unloadable for a configuration too deep to walk, and for classes that reach out of it."""
    level: list[Json] = [config]
    for _ in range(MAX_DEPTH):
        for one in level:
            if isinstance(one, dict) and str(one.get("class_name")) in DANGEROUS:
                raise Unloadable(
                    f"it holds {one['class_name']}, which reads files or runs code outside of the model."
                )
        level = [child for one in level for child in children(one)]
        if not level:
            return
    raise Unloadable(f"its configuration is nested more than {MAX_DEPTH} levels deep.")


@dataclass
class Modernised:
    """A configuration that Keras of today reads, and what was changed in it, in sentences."""

    config: Saved
    notes: list[str] = field(default_factory=list)


def modernised(config: Saved, version: Version, *, is_lambda_identity: bool = False) -> Modernised:
    """Corrects the configuration of a model that Keras of a version saved.

    Raises Unloadable for what no correction can mend.
    """
    walk = _Walk(version, is_lambda_identity)
    try:
        check_calls(config)
        corrected = walk.model(config)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as exc:
        if isinstance(exc, Unloadable):
            raise
        raise Unloadable("its configuration is not one that Keras writes.") from exc
    return Modernised(corrected, list(dict.fromkeys(walk.notes)))


@dataclass
class _Walk:
    """One pass over a configuration."""

    version: Version
    is_lambda_identity: bool
    notes: list[str] = field(default_factory=list)

    def model(self, saved: Saved) -> Saved:
        """A functional or Sequential model, with its layers."""
        if is_graph(saved):
            return self._graph(saved)
        return self._stack(saved) if is_stack(saved) else saved | {"compile_config": None}

    def _graph(self, saved: Saved) -> Saved:
        config: Saved = saved["config"]
        if saved["class_name"] not in ("Functional", "Model"):
            self.notes.append(_told_class(saved))
            saved = {key: saved[key] for key in ("config", "name", "inbound_nodes") if key in saved}
            config = {key: config[key] for key in (*GRAPH_KEYS, "name", "trainable") if key in config}
        layers, outputs = renumbered(config["layers"], config["output_layers"])
        inputs = [one["name"] for one in layers if one["class_name"] == "InputLayer"]
        changed = {
            "layers": [self.layer(one, is_fed_by(one, inputs)) for one in layers],
            "input_layers": alone(config["input_layers"]),
            "output_layers": alone(outputs),
        }
        place = {"module": "keras.src.models.functional", "class_name": "Functional"}
        return self._placed(saved, place, config | changed)

    def _stack(self, saved: Saved) -> Saved:
        config: Saved = saved["config"]
        if isinstance(config, list):
            config = {"name": saved.get("name", "sequential")}
        if saved["class_name"] != "Sequential":
            self.notes.append(_told_class(saved))
            saved = {key: saved[key] for key in ("config", "name", "inbound_nodes") if key in saved}
        layers = list(_with_input(layers_of(saved)))
        first = 1 if layers and layers[0]["class_name"] == "InputLayer" else 0
        changed = {"layers": [self.layer(one, at == first) for at, one in enumerate(layers)]}
        return self._placed(saved, {"module": "keras", "class_name": "Sequential"}, config | changed)

    def layer(self, saved: Saved, is_first: bool) -> Saved:
        """A layer, or a model as one."""
        if is_graph(saved) or is_stack(saved):
            return self.model(saved)
        if is_operation(saved):
            return as_keras(saved)
        if saved["class_name"] == "Lambda":
            saved = self._lambda(saved, is_first)
        if not isinstance(saved["config"], dict):
            return saved
        name, config = today(str(saved["class_name"]), saved["config"], self.version)
        for key in ("layer", "activation"):  # of a wrapper, such as TimeDistributed, and of any layer
            _check_code(config.get(key))
            if isinstance(config.get(key), dict) and isinstance(config[key].get("config"), dict):
                config[key] = self.layer(config[key], False)
        if "dtype" in config:
            config["dtype"] = self._policy(config["dtype"])
        if name == "Identity":
            saved = saved | {"inbound_nodes": [*map(without_options, saved.get("inbound_nodes", ()))]}
        return self._placed(saved, {"module": self._module(name, config), "class_name": name}, config)

    def _module(self, name: str, config: Saved) -> str:
        """Where Keras has a class today. Operations of Keras 3 have none of the settings of layers."""
        if self.version < KERAS_3 or "dtype" in config or "trainable" in config:
            return "keras.layers"
        return OPERATION_MODULES.get(name, "keras.src.ops.numpy")

    def _placed(self, saved: Saved, place: Saved, config: Saved) -> Saved:
        """What was saved, under the name that its class has in Keras today."""
        module = saved.get("module", "keras")
        is_old = self.version < KERAS_3 and str(module).startswith(KERAS_2_MODULES)
        if is_old or "module" not in saved or saved.get("class_name") != place["class_name"]:
            saved = {key: value for key, value in saved.items() if key not in FORGOTTEN}
            saved |= place | {"registered_name": None}
        if "/" in str(config.get("name")):
            config = config | {"name": name_today(config["name"])}
        return saved | {"config": config, "compile_config": None}

    def _policy(self, dtype: Json) -> Json:
        """The dtype of a layer, with float32 in place of half precision."""
        match dtype:
            case str() if dtype in HALF:
                self.notes.append(_told_half(dtype))
                return HALF[dtype]
            case {"class_name": "Policy" | "PolicyV1", "config": {"name": str(policy)}}:
                return self._policy(policy)
            case {"name": str(policy)} if policy in HALF:
                return dtype | {"name": self._policy(policy)}
            case dict():
                return {key: self._policy(value) for key, value in dtype.items()}
        return dtype

    def _lambda(self, saved: Saved, is_first: bool) -> Saved:
        """A Lambda: refused where it holds code; what only names a function may be left out."""
        match saved["config"]["function"]:
            case list() | {"class_name": "__lambda__"}:
                raise Unloadable(
                    "it holds a Lambda layer with code, which could do anything and is refused (safe "
                    "mode); put Rescaling(1/255) or --preprocessing in its place, and save it again."
                )
            case {"class_name": "function"} | str() if self.is_lambda_identity and is_first:
                self.notes.append("its Lambda is left out, and --preprocessing stands for what it did")
                return saved | {"class_name": "Identity", "config": _only_name(saved["config"])}
        return saved


def _check_code(function: Json) -> None:
    match function:
        case {"class_name": "__lambda__"} | {"value": [str(), *_]}:
            raise Unloadable(
                "it holds a Python lambda, which could do anything and is refused (safe mode); put a "
                "function of Keras in its place and save it again."
            )


def function_of_lambda(config: Json) -> str | None:
    """The name of the function that a Lambda somewhere in the configuration names; None without one."""
    if isinstance(config, dict) and config.get("class_name") == "Lambda":
        match config.get("config"):
            case {"function": str(name)} | {"function": {"class_name": "function", "config": str(name)}}:
                return name
    return next(filter(None, map(function_of_lambda, children(config))), None)


def _with_input(layers: list[Saved]) -> Iterator[Saved]:
    """The layers of a Sequential model, with an InputLayer where the first one told its shape."""
    first: Saved = layers[0]["config"] if layers else {}
    if (
        isinstance(first, dict)
        and "batch_input_shape" in first
        and layers[0]["class_name"] != "InputLayer"
    ):
        settings = {"batch_shape": first["batch_input_shape"], "name": f"{first['name']}_input"}
        yield {"class_name": "InputLayer", "config": settings}
    yield from layers


def _only_name(config: Saved) -> Saved:
    return {key: config[key] for key in ("name", "trainable", "dtype") if key in config}


def _told_class(saved: Saved) -> str:
    return (
        f"it was saved as {str(saved['class_name'])[:60]}, a class of its own; its layers compute here, "
        "without that class's code"
    )


def _told_half(policy: str) -> str:
    return (
        f"it was saved under {policy}; it computes in float32 here, and answers differ by rounding only "
        "(up to about 0.01)"
    )
