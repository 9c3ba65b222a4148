"""Gives the variables of a built model the values in a file: each exactly one, by name or place.

The order in which a file holds the weights of a nested model is that of its configuration, not that
of the model that Keras builds from it.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import h5py
import keras
import numpy as np

from service.lab.models.saved import OTHERS, Saved, Unloadable
from service.lab.models.saved.calls import is_graph, is_stack, layers_of
from service.lab.models.saved.hdf5 import dataset_at, group_at, names_attribute
from service.lab.models.saved.layer_changes import KERAS_3, Version, name_today

# What Keras 2 calls the layers of a model in an archive: since 2.13, and before.
CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
RANDOM_STATE = re.compile(r"StateVar(_\d+)?:0$")
# What Keras calls a part of a layer today, where it called it otherwise.
PARTS = {"depthwise_kernel": "kernel"}

Slot = tuple[Any, Any]  # a layer without layers in it, and one of its variables
Values = dict[int, tuple[Any, h5py.Dataset]]  # by the id of a variable


def assign_by_name(model: keras.Model, saved: Saved, file: h5py.Group, version: Version) -> None:
    """Assigns the weights of an `.h5` file, which lie by the names of the model's layers.

    `saved` is the configuration as the file has it. Raises Unloadable unless every variable of the model
    and every weight of the file has its counterpart.
    """
    layers = dict(_layers(saved, model))
    values: Values = {}
    for name in {*names_attribute(file, "layer_names"), "top_level_model_weights"}:
        group = group_at(file, name)
        paths = names_attribute(group, "weight_names") if group is not None else []
        paths = [path for path in paths if not RANDOM_STATE.search(path)]
        if group is None or not paths:
            continue
        if name not in layers:
            raise Unloadable(OTHERS)
        variables = _placed(paths, _in_order(*layers[name], version))
        _collect(values, variables, [dataset_at(group, path) for path in paths])
    _assign(model, values)


def assign_by_path(model: keras.Model, saved: Saved, file: h5py.Group) -> None:
    """Assigns the weights of a `.keras` file of Keras 2, which lie by the classes of the model's layers.

    The first Dense is `dense`, the next has a higher number; nested models hold their own. Raises
    Unloadable as `assign_by_name` does.
    """
    values: Values = {}
    _collect_by_path(values, model, saved, file)
    _assign(model, values)


def _collect_by_path(values: Values, model: keras.Model, saved: Saved, group: h5py.Group) -> None:
    container = next(filter(None, (group_at(group, name) for name in CONTAINERS)), None)
    by_class: dict[str, list[tuple[Saved, Any]]] = {}
    for one, layer in _layers(saved, model).values():
        if layer.weights:
            by_class.setdefault(_snake_case(one["class_name"]), []).append((one, layer))
    for word, layers in by_class.items():
        groups = _numbered(container, word)
        if len(groups) != len(layers):
            raise Unloadable(OTHERS)
        for (one, layer), own in zip(layers, groups, strict=True):
            if _is_model(one):
                _collect_by_path(values, layer, one, own)
                continue
            held = group_at(own, "vars")
            datasets = [dataset_at(held, str(at)) for at in range(len(held))] if held is not None else []
            _collect(values, layer.weights, datasets)


def _numbered(container: h5py.Group | None, word: str) -> list[h5py.Group]:
    """The groups `word`, `word_1`, `word_2` ... of a container, in the order of their numbers."""
    found = {name: re.fullmatch(rf"{word}(?:_(\d+))?", name) for name in container or ()}
    numbers = {name: int(match[1] or 0) for name, match in found.items() if match}
    return [container[name] for name in sorted(numbers, key=numbers.__getitem__)]  # type: ignore[index]  # no names without one


def _snake_case(name: str) -> str:
    """The name of a class as Keras spells it in paths."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _collect(values: Values, variables: list[Any], datasets: list[h5py.Dataset]) -> None:
    if [tuple(one.shape) for one in variables] != [one.shape for one in datasets]:
        raise Unloadable(OTHERS)
    for variable, dataset in zip(variables, datasets, strict=True):
        _, before = values.setdefault(id(variable), (variable, dataset))
        if before is not dataset and not np.array_equal(before, dataset, equal_nan=True):
            raise Unloadable(OTHERS)


def _assign(model: keras.Model, values: Values) -> None:
    if values.keys() != {id(variable) for variable in model.weights}:
        raise Unloadable(OTHERS)
    for variable, dataset in values.values():
        variable.assign(dataset[()])
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def _is_model(saved: Saved) -> bool:
    return is_graph(saved) or is_stack(saved)


def _layers(saved: Saved, model: keras.Model) -> dict[str, tuple[Saved, Any]]:
    """The layers of a model, with the configuration of each, in the configuration's order."""
    layers = {layer.name: layer for layer in model.layers}
    named = {_name(one): one for one in layers_of(saved)}
    return {
        name: (one, layers[name_today(name)])
        for name, one in named.items()
        if name_today(name) in layers
    }


def _name(saved: Saved) -> str:
    config = saved["config"]
    return str(config["name"] if isinstance(config, dict) and "name" in config else saved["name"])


def _in_order(saved: Saved, layer: Any, version: Version) -> list[Slot]:
    """What `.h5` files hold of a layer or nested model, in their order: what is trained comes first."""
    if version < KERAS_3:
        return [*_trained(saved, layer), *_frozen(saved, layer)]
    slots = [
        slot
        for one, leaf in _leaves(saved, layer)
        for slot in (*_trained(one, leaf), *_frozen(one, leaf))
    ]
    if not _is_trainable(saved):
        return slots
    trained = {
        id(variable) for one, leaf in _leaves(saved, layer) for _, variable in _trained(one, leaf)
    }
    return sorted(slots, key=lambda slot: id(slot[1]) not in trained)


def _leaves(saved: Saved, layer: Any) -> Iterator[tuple[Saved, Any]]:
    if not _is_model(saved):
        yield saved, layer
        return
    for one, child in _layers(saved, layer).values():
        yield from _leaves(one, child)


def _trained(saved: Saved, layer: Any) -> Iterator[Slot]:
    if not _is_trainable(saved):
        return
    if not _is_model(saved):
        never = {id(variable) for variable in layer._non_trainable_variables}
        yield from ((layer, variable) for variable in layer.weights if id(variable) not in never)
        return
    for one, child in _layers(saved, layer).values():
        yield from _trained(one, child)


def _frozen(saved: Saved, layer: Any) -> Iterator[Slot]:
    if not _is_model(saved):
        first = {id(variable) for _, variable in _trained(saved, layer)}
        yield from ((layer, variable) for variable in layer.weights if id(variable) not in first)
        return
    children = _layers(saved, layer).values()
    for one, child in children:
        if not _is_trainable(saved):
            yield from _trained(one, child)
    for one, child in children:
        yield from _frozen(one, child)


def _is_trainable(saved: Saved) -> bool:
    """As it was saved: building a model that is not trained freezes its layers as well."""
    config = saved["config"]
    return not isinstance(config, dict) or config.get("trainable") in (True, None)


def _placed(paths: list[str], slots: list[Slot]) -> list[Any]:
    """The variables that paths such as `conv1/kernel:0` name, or else those in the file's order.

    Names come first, because files of Keras before 2.4 do not tell which nested models were trained.
    """
    count = Counter((layer.name, variable.name) for layer, variable in slots)
    by_name = {
        (layer.name, variable.name): variable
        for layer, variable in slots
        if count[layer.name, variable.name] == 1
    }
    named = [_named(path, by_name) for path in paths]
    if len({id(one) for one in named if one is not None}) == len(slots) == len(paths):
        return named
    ordered = [variable for _, variable in slots]
    for one, other in zip(named, ordered, strict=False):
        if one is not None and one is not other:
            raise Unloadable(OTHERS)
    return ordered


def _named(path: str, by_name: dict[tuple[str, str], Any]) -> Any:
    *parents, part = path.removesuffix(":0").split("/")
    for layer in (parents[-1] if parents else "", "_".join(parents)):
        for name in (part, PARTS.get(part, part)):
            if (layer, name) in by_name:
                return by_name[layer, name]
    return None
