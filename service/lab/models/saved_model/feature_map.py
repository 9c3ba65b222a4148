"""Finds in a flat graph the last feature map, and what the head after it is made of."""

import math
from collections.abc import Sequence

import tensorflow as tf

from service.errors import CommandError
from service.lab.models.saved_model.flattening import FlatGraph
from service.lab.models.saved_model.signature import MAP_RANK
from service.store.card import Pooling

CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
WINDOWS: dict[str, Pooling] = {"AvgPool": "average", "MaxPool": "max"}
GLOBAL: dict[str, Pooling] = {"Max": "gmp", "Mean": "gap"}
POOLINGS = (*WINDOWS, *GLOBAL)
REDUCTIONS = ("Max", "Mean", "Min", "Prod", "Sum")
DENSE = ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "MatMul")
RESHAPES = ("Reshape", "Squeeze")
LINEAR = ("Add", "AddV2", "BiasAdd", "Cast", "Identity", "Mul", "RealDiv", "Sub", *RESHAPES)
MOVES = ("Cast", "Identity", "Transpose")
# What a pooling may have behind it, or in front, before its map is no longer one of its layer's.
PASSED = (*POOLINGS, *LINEAR, "Elu", "FusedBatchNormV3", "LeakyRelu", "Relu", "Relu6", "Selu")
HEIGHT_AND_WIDTH = {1, 2}
ROW_RANK = 2
MAX_ELEMENTS = (
    2**28
)  # Of a tensor; VGG16 makes 3 million of a picture, and has a layer of 103 million weights.


def check_graph(flat: FlatGraph) -> None:
    """Raises CommandError for a graph that is huge, computes as in training, or has another layout."""
    for one in flat.between(flat.pixels, flat.scores):
        attributes = one.node_def.attr
        for shape in (made.shape for made in one.outputs if made.shape.rank is not None):
            if math.prod(side or 1 for side in shape) > MAX_ELEMENTS:
                raise CommandError(
                    f"The model makes {shape[1:]} numbers of a picture; that is too many."
                )
        if attributes["data_format"].s.startswith(b"NC"):
            raise CommandError(f"The model holds {one.type} as channels_first, not channels_last.")
        is_over_batch = one in flat.computed and one.type in REDUCTIONS and 0 in _axes(one)
        if is_over_batch or attributes["is_training"].b:
            raise CommandError(
                "The model's answer to a picture depends on the others in its batch, as in training; "
                "save it as NAME.keras and import that."
            )


def feature_map(flat: FlatGraph) -> tf.Tensor:
    """The one map (n, height, width, channels) that all scores are computed from, before its pooling.

    Raises CommandError if there is none.
    """
    if flat.scores.shape.rank != ROW_RANK:
        raise CommandError(
            f"The model gives {flat.scores.shape[1:]} per picture; a row of scores is needed."
        )
    found = {_before_pooling(flat, one).ref() for one in _last_maps(flat)}
    if len(found) != 1:
        raise CommandError(f"The head joins {len(found)} feature maps; it may have one.")
    features = found.pop().deref()
    if not any(one.type in CONVOLUTIONS for one in flat.between(flat.pixels, features)):
        raise CommandError("The model has no feature map: it holds no convolution.")
    if flat.pixels.op in flat.between(features, flat.scores):
        raise CommandError("The head takes more than its feature map; it may take nothing else.")
    return features


def first_convolution(flat: FlatGraph, features: tf.Tensor) -> tf.Operation:
    """The convolution that the pixels reach first."""
    return next(one for one in flat.between(flat.pixels, features) if one.type in CONVOLUTIONS)


def pooling_of(flat: FlatGraph, head: Sequence[tf.Operation]) -> str:
    """The names of the poolings that leave no map, in alphabetical order and joined by `+`.

    Raises CommandError if there is none.
    """
    words, pooled = set(), set()
    for one in head:
        if all(source.op in pooled for source in flat.sources(one)):
            pooled.add(one)
        elif word := _pooling(one):
            pooled.add(one)
            words.add(_window_before(flat, one, head) if word == "flatten" else word)
    if not words:
        raise CommandError("The head has neither pooling nor Flatten after its feature map.")
    return "+".join(sorted(words))


def window_of(head: Sequence[tf.Operation]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The (height, width) and the strides of the first pooling window."""
    for one in head:
        if one.type in WINDOWS:
            (_, *sides, _), (_, *strides, _) = one.get_attr("ksize"), one.get_attr("strides")
            return tuple(sides), tuple(strides)
    return None


def dense_units(flat: FlatGraph, head: Sequence[tf.Operation]) -> tuple[int, ...]:
    """The number of units of each dense layer. Raises CommandError if there is none."""
    dense = [one for one in head if one.type in DENSE and len(flat.sources(one)) == 1]
    if not dense:
        raise CommandError(
            "The model has no dense layer after its feature map; there is no head to serve."
        )
    return tuple(int(one.outputs[0].shape[-1]) for one in dense)


def last_activation(flat: FlatGraph) -> str:
    """The name of the operation that the scores come out of; `linear` for a dense layer alone."""
    operation = flat.scores.op
    while operation.type in LINEAR and len(sources := flat.sources(operation)) == 1:
        operation = sources[0].op
    return "linear" if operation.type in DENSE else str(operation.type).lower()


def _last_maps(flat: FlatGraph) -> list[tf.Tensor]:
    """The last tensors with a height and a width on each way to the scores."""
    maps, seen, waiting = [], set(), [flat.scores]
    while waiting:
        tensor = waiting.pop()
        if tensor.ref() in seen:
            continue
        seen.add(tensor.ref())
        if tensor.shape.rank == MAP_RANK and tensor.shape[1:].is_fully_defined():
            maps.append(tensor)
        else:
            waiting.extend(flat.sources(tensor.op))
    return maps


def _before_pooling(flat: FlatGraph, tensor: tf.Tensor) -> tf.Tensor:
    """What goes into the first pooling of the layers right before `tensor`; else what `tensor` is of."""
    while tensor.op.type in MOVES and (sources := _maps(flat, tensor)):
        (tensor,) = sources
    first = tensor
    while tensor.op.type in PASSED and (sources := _maps(flat, tensor)):
        first = sources[0] if tensor.op.type in POOLINGS else first
        (tensor,) = sources
    return first


def _maps(flat: FlatGraph, tensor: tf.Tensor) -> list[tf.Tensor]:
    """The one map that a tensor is computed from; nothing if there are more, or if it is no map."""
    sources = flat.sources(tensor.op)
    return sources if len(sources) == 1 and sources[0].shape.rank == MAP_RANK else []


def _pooling(operation: tf.Operation) -> Pooling | None:
    """What makes no map of a map is called; None for other operations."""
    given, made = operation.inputs[0].shape, operation.outputs[0].shape
    if given.rank != MAP_RANK:
        return None
    if operation.type in RESHAPES and made.rank == ROW_RANK:
        return "flatten" if made[1] == math.prod(side or 0 for side in given[1:]) else None
    if operation.type in GLOBAL and _axes(operation) != HEIGHT_AND_WIDTH:
        raise CommandError("The head pools over other axes than height and width.")
    return GLOBAL.get(operation.type)


def _window_before(flat: FlatGraph, flatten: tf.Operation, head: Sequence[tf.Operation]) -> Pooling:
    """The name of the first window before a Flatten, if there is one."""
    word: Pooling = "flatten"
    operation = flatten
    while operation in head:
        word = WINDOWS.get(operation.type, word)
        operation = flat.sources(operation)[0].op
    return word


def _axes(reduction: tf.Operation) -> set[int]:
    """The axes that a reduction goes over; all of them where they are computed too."""
    rank = reduction.inputs[0].shape.rank or 1
    axes = tf.get_static_value(reduction.inputs[1])
    return set(range(rank)) if axes is None else {int(axis) % rank for axis in axes.ravel()}
