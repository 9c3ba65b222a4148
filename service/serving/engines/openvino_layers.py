"""Reads the layers of a head from its OpenVINO graph."""

import functools
import itertools
import operator
from collections.abc import Callable, Sequence

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from service.errors import CannotExplain
from service.serving.explain.layers import (
    Affine,
    Array,
    Dense,
    Joined,
    Layer,
    Pooled,
    Rectified,
    Reshaped,
    Transposed,
    windows,
)

ENDINGS = ("Softmax", "Sigmoid")
AFTER_ENDING = ("Concat", "Convert", "Reshape", "Result", "Squeeze", "Subtract", "Unsqueeze")
MAX_JOINS = 100  # Branches that cross each other are read more than once.
NO_BIAS = np.zeros(1, np.float32)
ONE = np.ones(1, np.float32)


def logits_of(graph: ov.Model) -> ov.Output | None:
    """The input of the one softmax or sigmoid that the result is of; None without, and of several."""
    found: dict[str, ov.Node] = {}
    seen: set[str] = set()
    waiting = [graph.get_results()[0]]
    while waiting:
        node = waiting.pop()
        if node.get_name() in seen:
            continue
        seen.add(node.get_name())
        if node.get_type_name() in ENDINGS:
            found[node.get_name()] = node
        elif node.get_type_name() in AFTER_ENDING:
            waiting.extend(_computed(node))
        else:
            return None
    return found.popitem()[1].input_value(0) if len(found) == 1 else None


def layers_of(logits: ov.Output | None) -> tuple[Layer, ...]:
    """The layers from feature map to `logits`. Raises CannotExplain if one is not piecewise linear."""
    if logits is None:
        raise CannotExplain("it does not end in one softmax or one sigmoid.")
    layers = _Reading(logits.get_node()).layers
    is_row = len(shape := _shape(logits)) == 1
    return layers if is_row else (*layers, Reshaped((int(np.prod(shape)),)))


class _Reading:
    """Reads the layers of the nodes that lead to `last`, in sequences that fork and join again.

    A bit stands for each node; `through[node]` are the nodes that all ways to it pass, itself included.
    """

    def __init__(self, last: ov.Node) -> None:
        self._nodes = _nodes_to(last)
        self._places = {node.get_name(): place for place, node in enumerate(self._nodes)}
        self._through: list[int] = []
        for place, node in enumerate(self._nodes):
            self._through.append(1 << place | self._shared(node))
        self._joins_left = MAX_JOINS

    @property
    def layers(self) -> tuple[Layer, ...]:
        return tuple(self._between(self._nodes[0], self._nodes[-1]))

    def _shared(self, node: ov.Node) -> int:
        """The nodes that all ways to the inputs of `node` pass."""
        through = [self._through[self._places[one.get_name()]] for one in _computed(node)]
        return functools.reduce(operator.and_, through, -1) if through else 0

    def _between(self, first: ov.Node, last: ov.Node) -> list[Layer]:
        """The layers from the output of `first` to that of `last`."""
        steps: list[Sequence[Layer]] = []
        while last.get_name() != first.get_name():
            sources = _computed(last)
            if len(sources) == 1:
                steps.append(_read(last))
                last = sources[0]
            else:
                fork = self._nodes[self._shared(last).bit_length() - 1]
                steps.append([self._joined(fork, last)])
                last = fork
        layers: list[Layer] = []
        for layer in itertools.chain.from_iterable(reversed(steps)):
            _append(layers, layer)
        return layers

    def _joined(self, fork: ov.Node, last: ov.Node) -> Joined:
        self._joins_left -= 1
        if self._joins_left < 0:
            raise CannotExplain("it forks and joins too often.")
        axis = _joining_axis(last)
        return Joined(tuple(self._between(fork, source) for source in _computed(last)), axis)


def _nodes_to(last: ov.Node) -> list[ov.Node]:
    """The feature map and what is computed from it on the ways to `last`, inputs first."""
    nodes: dict[str, ov.Node] = {}
    waiting = [(last, False)]
    while waiting:
        node, is_ready = waiting.pop()
        if node.get_name() in nodes:
            continue
        if is_ready:
            nodes[node.get_name()] = node
        elif not _computed(node) and node.get_type_name() != "Parameter":
            raise CannotExplain(f"its {node.get_type_name()} joins 0 branches.")
        else:
            waiting += [(node, True), *((one, False) for one in _computed(node))]
    return list(nodes.values())


def _computed(node: ov.Node) -> list[ov.Node]:
    """The nodes of the inputs that are not constants."""
    sources = [port.get_source_output().get_node() for port in node.inputs()]
    return [source for source in sources if not _is_stored(source)]


def _read(node: ov.Node) -> Sequence[Layer]:
    read = READERS.get(node.get_type_name())
    if read is None:
        raise CannotExplain(f"it holds {node.get_type_name()}, which is not piecewise linear.")
    return read(node)


def _joining_axis(node: ov.Node) -> int | None:
    """The axis of a concatenation, not counting the batch axis; None for an addition.

    Raises CannotExplain for what joins branches in another way.
    """
    kind, rank = node.get_type_name(), len(node.output(0).get_partial_shape())
    if kind == "Add" and _shape(node.input(0)) == _shape(node.input(1)):
        return None
    axis = int(node.get_attributes()["axis"]) % rank if kind == "Concat" else 0
    if axis == 0 or len(_computed(node)) != len(node.inputs()):
        raise CannotExplain(f"its {kind} joins {len(_computed(node))} branches.")
    return axis - 1


def _append(layers: list[Layer], layer: Layer) -> None:
    """Appends a layer; merges a bias into the dense layer before it, which saves computing a value."""
    last = layers[-1] if layers else None
    if (
        isinstance(last, Dense)
        and last.bias is NO_BIAS
        and isinstance(layer, Affine)
        and layer.scale is ONE
    ):
        layers[-1] = Dense(last.kernel, layer.shift, last.scale)
    else:
        layers.append(layer)


def _multiplied(node: ov.Node) -> Sequence[Layer]:
    attributes = node.get_attributes()
    if not _is_stored(weights := node.input_value(1).get_node()) or attributes["transpose_a"]:
        raise CannotExplain("it multiplies matrices in an unusual way.")
    kernel, scale = _stored(weights)
    return [Dense(kernel if attributes["transpose_b"] else kernel.T, NO_BIAS, scale.ravel())]


def _convolved(node: ov.Node) -> Sequence[Layer]:
    kernel = _constant(node, 1)
    outputs, inputs, *sides = kernel.shape
    if {*sides, *_shape(node.input(0))[1:]} != {1}:
        raise CannotExplain("it holds a convolution.")
    dense = Dense(kernel.reshape(outputs, inputs), NO_BIAS)
    return [Reshaped((inputs,)), dense, Reshaped(_shape(node.output(0)))]


def _added(node: ov.Node) -> Sequence[Layer]:
    return [Affine(ONE, _elementwise(node))]


def _subtracted(node: ov.Node) -> Sequence[Layer]:
    shift = _elementwise(node)
    is_from_constant = _is_stored(node.input_value(0).get_node())
    return [Affine(-ONE, shift)] if is_from_constant else [Affine(ONE, -shift)]


def _scaled(node: ov.Node) -> Sequence[Layer]:
    return [Affine(_elementwise(node), np.zeros(1, np.float32))]


def _reduced(is_average: bool) -> Callable[[ov.Node], Sequence[Layer]]:
    def read(node: ov.Node) -> Sequence[Layer]:
        _, *shape = node.input(0).get_partial_shape()
        axes = sorted(int(axis) % (len(shape) + 1) - 1 for axis in _constant_of(node, 1).ravel())
        first, second = axes if len(axes) == 2 else (0, 0)  # noqa: PLR2004 (rows and columns)
        if second != first + 1:
            raise CannotExplain("it reduces other axes than height and width.")
        rows, columns = (slice(0, int(shape[axis].get_length())) for axis in axes)
        return [Pooled(is_average, first, (rows,), (columns,)), _reshaped(node)[0]]

    return read


def _pooled(is_average: bool) -> Callable[[ov.Node], Sequence[Layer]]:
    def read(node: ov.Node) -> Sequence[Layer]:
        attributes = node.get_attributes()
        sizes, outputs = _shape(node.input(0)), _shape(node.output(0))
        pads, ends = attributes["pads_begin"], attributes["pads_end"]
        is_plain = set(attributes.get("dilations", [1])) == {1} and (
            not is_average or attributes.get("exclude-pad", True) or not any((*pads, *ends))
        )
        if not is_plain:
            raise CannotExplain("its pooling is dilated, or averages its padding.")
        rows, columns = (
            windows(
                sizes[1 + axis],
                attributes["kernel"][axis],
                attributes["strides"][axis],
                outputs[1 + axis],
                pads[axis],
            )
            for axis in (0, 1)
        )
        return [Pooled(is_average, 1, rows, columns)]

    return read


def _transposed(node: ov.Node) -> Sequence[Layer]:
    return [Transposed(tuple(int(axis) - 1 for axis in _constant_of(node, 1)[1:]))]


def _reshaped(node: ov.Node) -> Sequence[Reshaped]:
    return [Reshaped(_shape(node.output(0)))]


def _relu(_: ov.Node) -> Sequence[Layer]:
    return [Rectified(np.zeros(1, np.float32))]


def _leaky(node: ov.Node) -> Sequence[Layer]:
    return [Rectified(_constant(node, 1))]


def _nothing(_: ov.Node) -> Sequence[Layer]:
    return []


def _shape(port: ov.Output) -> tuple[int, ...]:
    """The shape of a port without the batch axis."""
    return tuple(dimension.get_length() for dimension in list(port.get_partial_shape())[1:])


def _elementwise(node: ov.Node) -> Array:
    """The constant operand of an elementwise node, without the batch axis."""
    at = next(at for at in (0, 1) if _is_stored(node.input_value(at).get_node()))
    constant = _constant(node, at)
    return constant[0] if constant.ndim == len(node.output(0).get_partial_shape()) else constant


def _constant(node: ov.Node, at: int) -> Array:
    data, scale = _stored(node.input_value(at).get_node())
    return data if scale is ONE else data * scale


def _constant_of(node: ov.Node, at: int) -> NDArray[np.generic]:
    data: NDArray[np.generic] = node.input_value(at).get_node().data
    return data


def _is_stored(node: ov.Node) -> bool:
    """Whether a node is a constant, or int8 weights with the scales that they are multiplied by."""
    kind, sources = node.get_type_name(), [port.get_node() for port in node.input_values()]
    return kind == "Constant" or (kind in ("Convert", "Multiply") and all(map(_is_stored, sources)))


def _stored(node: ov.Node) -> tuple[Array, Array]:
    """A constant, in float32 unless it is int8, and the scales to multiply it by.

    OpenVINO multiplies the sums, so that a product of float16 is not rounded.
    """
    if node.get_type_name() == "Constant":
        return node.data if node.data.dtype == np.int8 else node.data.astype(np.float32, copy=False), ONE
    data, scale = _stored(node.input_value(0).get_node())
    if node.get_type_name() == "Multiply":
        scale = scale * _stored(node.input_value(1).get_node())[0]
    return data, scale


READERS: dict[str, Callable[[ov.Node], Sequence[Layer]]] = {
    "Add": _added,
    "AvgPool": _pooled(is_average=True),
    "Convolution": _convolved,
    "Convert": _nothing,
    "MatMul": _multiplied,
    "MaxPool": _pooled(is_average=False),
    "Multiply": _scaled,
    "PRelu": _leaky,
    "ReduceMax": _reduced(is_average=False),
    "ReduceMean": _reduced(is_average=True),
    "Relu": _relu,
    "Reshape": _reshaped,
    "Squeeze": _reshaped,
    "Subtract": _subtracted,
    "Transpose": _transposed,
    "Unsqueeze": _reshaped,
}
