"""Finds in a flat Keras graph where the head begins, and what it is made of.

A head reads one feature map. It may fork there and join again, as Concatenate([GAP, GMP]) does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from service.errors import CommandError
from service.lab.models.graph import MAP_RANK
from service.lab.models.structure.operations import activation_of, call_of, kind_of, named, nodes_of
from service.store.card import Pooling

ROW_RANK = 2

POOLINGS: dict[str, Pooling] = {
    "AveragePooling2D": "average",
    "Flatten": "flatten",
    "GlobalAveragePooling2D": "gap",
    "GlobalMaxPooling2D": "gmp",
    "MaxPooling2D": "max",
}
WINDOWS = ("AveragePooling2D", "MaxPooling2D")
WEIGHTED = ("Conv2D", "Dense")
NOISE = ("AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "SpatialDropout2D")
# What a head may do to a map before it pools it.
ON_MAPS = (
    *POOLINGS,
    *NOISE,
    *("Activation", "ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax"),
    *("BatchNormalization", "Dense"),
)
# What keeps probabilities as they are, or averages those of branches.
IDLE = (*NOISE, "ActivityRegularization", "Average", "Flatten", "Identity", "Permute", "Reshape")
# What a head may do after its pooling; functions of keras.ops bear the names of layers.
ON_POOLED = (
    *ON_MAPS,
    *IDLE,
    *("LayerNormalization", "Relu", "Rescaling", "Sigmoid", "UnitNormalization"),
    *("Add", "Concatenate", "Divide", "TrueDivide", "Maximum", "Minimum", "Multiply", "Subtract"),
    "Conv2D",  # A dense layer where there is one position.
)


@dataclass(frozen=True)
class Head:
    """The calls from the feature map to the output, in the order of computing.

    `poolings` are those of them after which no map is left.
    """

    features: Any
    output: Any
    calls: Sequence[Any]
    poolings: Sequence[Any]

    @property
    def pooling(self) -> str:
        """The names of its poolings in alphabetical order, joined by `+`."""
        return "+".join(sorted({self._name(call) for call in self.poolings}))

    @property
    def window(self) -> Any | None:
        """The first pooling layer with a window."""
        operations = (call.operation for call in self.calls)
        return next((one for one in operations if kind_of(one) in WINDOWS), None)

    @property
    def hidden_units(self) -> tuple[int, ...]:
        """Of each layer with a kernel behind which another comes."""
        found: list[int] = []
        taken: set[int] = set()  # The ids of the tensors that lead to a kernel.
        for call in reversed(self.calls):
            operation = call.operation
            is_hidden = any(id(tensor) in taken for tensor in call.output_tensors)
            if kind_of(operation) in WEIGHTED and is_hidden:
                found.insert(0, operation.units if kind_of(operation) == "Dense" else operation.filters)
            if kind_of(operation) in WEIGHTED or is_hidden:
                taken.update(id(tensor) for tensor in call.input_tensors)
        return tuple(found)

    @property
    def activation(self) -> str:
        """The name of the last activation, `linear` where there is none after the last kernel.

        Raises CommandError where branches end in several, or where probabilities are changed.
        """
        found: dict[str, Any] = {}
        after, seen, waiting = [], set(), [self.output]
        while waiting:
            call = call_of(waiting.pop())
            if call in seen:
                continue
            seen.add(call)
            name = activation_of(call.operation)
            if name != "linear" or kind_of(call.operation) in WEIGHTED:
                found[name] = call.operation
            else:
                after.append(call.operation)
                waiting.extend(call.input_tensors)
        if len(found) > 1:
            names = " and ".join(sorted(found))
            raise CommandError(
                f"The head's branches end in {names[:60]}; they must end alike: join them before the "
                "last Dense, end that in a softmax, and save it again."
            )
        (name,) = found
        changing = [one for one in after if kind_of(one) not in IDLE]
        is_multi_label = name == "sigmoid" and self.output.shape[-1] > 1  # which says more
        if changing and name in ("softmax", "sigmoid") and not is_multi_label:
            raise CommandError(
                f"The model's outputs are no probabilities: {named(changing[0])} comes after the "
                f"{name}; end it in the {name}, and save that."
            )
        return name

    def _name(self, pooling: Any) -> str:
        """What a pooling is called; of a window and then Flatten it is the window's name."""
        word, tensor = POOLINGS.get(kind_of(pooling.operation), "flatten"), pooling.input_tensors[0]
        if word != "flatten":
            return word
        while tensor is not self.features:
            call = call_of(tensor)
            word = POOLINGS.get(kind_of(call.operation), word)
            tensor = call.input_tensors[0]
        return word


def head_of(flat: keras.Model) -> Head:
    """Finds the head of a flat model. Raises CommandError with one sentence on what is not supported."""
    calls, output = nodes_of(flat), flat.outputs[0]
    poolings, pooled = _poolings(calls)
    if id(output) not in pooled:
        raise _not_pooled(output)
    head, features = _behind_one_map(output, pooled)
    # Layers before the pooling and the first kernel, such as the last ReLU, belong to the backbone.
    while len(takers := [call for call in head if _takes(call, features)]) == 1:
        (taker,) = takers
        if taker in poolings or kind_of(taker.operation) in (*POOLINGS, "Dense"):
            break
        head.remove(taker)
        features = taker.output_tensors[0]
    found = Head(
        features,
        output,
        [call for call in calls if call in head],
        [call for call in poolings if call in head],
    )
    if not any(kind_of(call.operation) in WEIGHTED for call in found.calls):
        raise CommandError(
            "The model has no dense layer after its feature map; there is no head to serve: end it in "
            "pooling or Flatten and then Dense, and save that."
        )
    if len(output.shape) != ROW_RANK:
        raise _no_row(output)
    return found


def _poolings(calls: Sequence[Any]) -> tuple[list[Any], set[int]]:
    """The calls that leave no map of a map, and the ids of the tensors made of their results only."""
    poolings: list[Any] = []
    pooled: set[int] = set()
    for call in calls:
        if not all(id(tensor) in pooled for tensor in call.input_tensors):
            if not _leaves_no_map(call):
                continue
            poolings.append(call)
        pooled.update(id(tensor) for tensor in call.output_tensors)
    return poolings, pooled


def _leaves_no_map(call: Any) -> bool:
    kind, given, made = kind_of(call.operation), call.input_tensors[0], call.output_tensors[0]
    is_map = len(given.shape) == MAP_RANK
    is_flattened = kind == "Reshape" and len(made.shape) == ROW_RANK
    return is_map and (
        is_flattened or kind in ("Flatten", "GlobalAveragePooling2D", "GlobalMaxPooling2D")
    )


def _behind_one_map(output: Any, pooled: set[int]) -> tuple[set[Any], Any]:
    """The calls from the output back to the one map made by what heads do not have, and that map."""
    head: set[Any] = set()
    maps: dict[int, Any] = {}
    waiting = [output]
    while waiting:
        tensor = waiting.pop()
        call = call_of(tensor)
        if call in head:
            continue
        if id(tensor) in pooled and not _is_known(call):
            raise _not_taken(call.operation)
        if id(tensor) in pooled or kind_of(call.operation) in ON_MAPS:
            head.add(call)
            waiting.extend(call.input_tensors)
        else:
            maps[id(tensor)] = tensor
    if len(maps) > 1:
        names = " and ".join(
            repr(one._keras_history.operation.name[:40]) for one in [*maps.values()][:2]
        )
        raise CommandError(
            f"The head reads {len(maps)} feature maps, of {names}; it may read one: let its branches "
            "begin at the same map, or import a model of each."
        )
    return head, maps.popitem()[1]


def _is_known(call: Any) -> bool:
    kind, given = kind_of(call.operation), call.input_tensors[0]
    return kind in ON_POOLED and (kind != "Conv2D" or tuple(given.shape[1:3]) == (1, 1))


def _takes(call: Any, tensor: Any) -> bool:
    return any(one is tensor for one in call.input_tensors)


def _not_pooled(output: Any) -> CommandError:
    """Why an output is not made of pooled maps only."""
    tensor = output
    while kind_of(call_of(tensor).operation) in ON_MAPS:
        tensor = call_of(tensor).input_tensors[0]
    if len(tensor.shape) == MAP_RANK:
        return _no_row(output)
    return _not_taken(call_of(tensor).operation)


def _not_taken(operation: Any) -> CommandError:
    return CommandError(
        f"The head holds {named(operation)}; it may hold pooling, Flatten, Dense, Dropout, "
        "normalization, activations and Concatenate: build it of these, and save it again."
    )


def _no_row(output: Any) -> CommandError:
    return CommandError(
        f"The model gives {tuple(output.shape[1:])} per picture; a row of scores is needed: put "
        "GlobalAveragePooling2D or Flatten in front of its last Dense or at its end, and save that."
    )
