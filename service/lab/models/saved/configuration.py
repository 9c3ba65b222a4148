"""Corrects the configuration of a saved model, which is data, from any Keras to today's. No Keras here.

`modernised` walks the models and layers of a configuration once; the tables below say what changed.
"""

import json
from collections.abc import Iterator, Mapping
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
from service.lab.models.saved.tf_operations import as_keras, is_operation

MAX_DEPTH = 100

RENAMED = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    # They change pictures in training only, and are no longer in Keras.
    "RandomHeight": "Identity",
    "RandomWidth": "Identity",
}
KERNEL = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
# Settings that today's layer does not know, and at which values they change nothing: None is any value,
# because they matter in training only. Others are left for Keras to refuse.
DROPPED: dict[str, dict[str, tuple[Json, ...] | None]] = {
    **{f"DepthwiseConv{n}D": {"groups": (1,), **dict.fromkeys(KERNEL)} for n in (1, 2)},
    **{f"SeparableConv{n}D": {"groups": (1,), **dict.fromkeys(KERNEL)} for n in (1, 2)},
    **{f"Conv{n}DTranspose": {"groups": (1,)} for n in (1, 2, 3)},
    **{f"SpatialDropout{n}D": dict.fromkeys(("trainable", "noise_shape")) for n in (1, 2, 3)},
    "InputLayer": {"ragged": (False,), "type_spec": (None,)},
    "MultiHeadAttention": dict.fromkeys(("query_shape", "key_shape", "value_shape")),
    "Embedding": {"batch_input_shape": None, "input_length": None},
    "Identity": dict.fromkeys(("factor", "interpolation", "seed", "auto_vectorize")),
    **{
        f"Random{what}": dict.fromkeys(("value_range", "rng_type", "auto_vectorize", "force_generator"))
        for what in ("Crop", "Flip", "Rotation", "Translation", "Zoom")
    },
    **{
        f"Random{what}": dict.fromkeys(("rng_type", "auto_vectorize", "force_generator"))
        for what in ("Brightness", "Contrast")
    },
}
ALONE = {"BatchNormalization": ("axis",)}  # Lists of one element that are now that element.
HALF = {"mixed_float16": "float32", "mixed_bfloat16": "float32"}
KERAS_2_MODULES = ("keras", "tf_keras", "tensorflow.")
FORGOTTEN = ("build_config", "shared_object_id")
# Where Keras 3 has its operations, whose module `.h5` files do not name; the others are those of NumPy.
OPERATION_MODULES = {"Cast": "keras.src.ops.core"} | dict.fromkeys(
    ("Relu", "Relu6", "Softmax", "Sigmoid", "Silu"), "keras.src.ops.nn"
)
TRAINING_ONLY = ("_initializer", "_regularizer", "_constraint")
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


def modernised(config: Saved, *, is_keras_2: bool, is_lambda_identity: bool = False) -> Modernised:
    """Corrects the configuration of a model. Raises Unloadable for what no correction can mend."""
    walk = _Walk(is_keras_2, is_lambda_identity)
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

    is_keras_2: bool
    is_lambda_identity: bool
    notes: list[str] = field(default_factory=list)

    def model(self, saved: Saved) -> Saved:
        """A functional or Sequential model, with its layers."""
        if is_graph(saved):
            return self._graph(saved)
        return self._stack(saved) if is_stack(saved) else saved

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
            "input_layers": _alone(config["input_layers"]),
            "output_layers": _alone(outputs),
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
        name = str(saved["class_name"])
        name = RENAMED.get(name, name)
        if name == "Identity":
            saved = saved | {"inbound_nodes": [*map(without_options, saved.get("inbound_nodes", ()))]}
        is_layer = self.is_keras_2 or not {"dtype", "trainable"}.isdisjoint(saved["config"])
        module = "keras.layers" if is_layer else OPERATION_MODULES.get(name, "keras.src.ops.numpy")
        place = {"module": module, "class_name": name}
        return self._placed(saved, place, self._settings(name, saved["config"]))

    def _placed(self, saved: Saved, place: Saved, config: Saved) -> Saved:
        """What was saved, under the name that its class has in Keras today."""
        module = saved.get("module", "keras")
        is_old = self.is_keras_2 and str(module).startswith(KERAS_2_MODULES)
        if is_old or "module" not in saved or saved.get("class_name") != place["class_name"]:
            saved = {key: value for key, value in saved.items() if key not in FORGOTTEN}
            saved |= place | {"registered_name": None}
        if "/" in str(config.get("name")):
            config = config | {"name": name_today(config["name"])}
        return saved | {"config": config, "compile_config": None}

    def _settings(self, name: str, config: Saved) -> Saved:
        dropped, alone = DROPPED.get(name, {}), ALONE.get(name, ())
        kept = {key: value for key, value in config.items() if not _is_dropped(dropped, key, value)}
        if self.is_keras_2:
            _check_activations(kept)
            kept = {key: value for key, value in kept.items() if not key.endswith(TRAINING_ONLY)}
        if "batch_input_shape" in kept:
            shape = kept.pop("batch_input_shape")
            kept |= {"batch_shape": shape} if name == "InputLayer" else {}
        for key in ("layer", "activation"):  # of a wrapper, such as TimeDistributed, and of any layer
            if isinstance(kept.get(key), dict) and isinstance(kept[key].get("config"), dict):
                kept[key] = self.layer(kept[key], False)
        if "dtype" in kept:
            kept["dtype"] = self._policy(kept["dtype"])
        return {key: _alone(value) if key in alone else _number(value) for key, value in kept.items()}

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
                return saved | {"class_name": "Identity", "config": _only_name(saved["config"])}
        return saved


def name_today(name: str) -> str:
    """The name of a layer, without the slashes that Keras 3 does not allow."""
    return name.replace("/", "_")


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


def _is_dropped(dropped: Mapping[str, tuple[Json, ...] | None], key: str, value: Json) -> bool:
    allowed = dropped.get(key, ())
    return allowed is None or value in allowed


def _check_activations(config: Saved) -> None:
    names = [config.get(key) for key in ("activation", "recurrent_activation")]
    names = [one.get("config") if isinstance(one, dict) else one for one in names]
    if "hard_sigmoid" in names:
        raise Unloadable(
            "it holds hard_sigmoid, which Keras 3 computes otherwise than Keras 2: answers would differ."
        )


def _alone(value: Json) -> Json:
    """The element of a list of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _number(value: Json) -> Json:
    """The number in a NumPy array of Keras 2, such as the bound of a ReLU."""
    match value:
        case {"type": "ndarray", "value": number} | {
            "class_name": "__numpy__" | "__ndarray__",
            "config": {"value": number},
        }:
            return number
    return value


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
