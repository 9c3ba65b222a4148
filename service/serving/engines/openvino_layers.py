"""Reads the layers of a head from its OpenVINO graph."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from service.errors import CannotExplain
from service.serving.explain.layers import (
    Affine,
    Array,
    Dense,
    Layer,
    Pooled,
    Rectified,
    Reshaped,
    Transposed,
    windows,
)

ENDINGS = ("Softmax", "Sigmoid")
NO_BIAS = np.zeros(1, np.float32)
ONE = np.ones(1, np.float32)


def logits_of(graph: ov.Model) -> ov.Output | None:
    """The input of the last softmax or sigmoid; None without one."""
    endings = [node for node in graph.get_ordered_ops() if node.get_type_name() in ENDINGS]
    return endings[-1].input_value(0) if endings else None


def layers_of(logits: ov.Output | None) -> tuple[Layer, ...]:
    """The layers from feature map to `logits`. Raises CannotExplain if one is not piecewise linear."""
    if logits is None:
        raise CannotExplain("it ends in neither softmax nor sigmoid.")
    layers: list[Layer] = []
    for node in reversed(list(_chain(logits.get_node()))):
        read = READERS.get(node.get_type_name())
        if read is None:
            raise CannotExplain(f"it holds {node.get_type_name()}, which is not piecewise linear.")
        for layer in read(node):
            _append(layers, layer)
    return tuple(layers)


def _chain(node: ov.Node) -> Iterator[ov.Node]:
    """Yields the nodes from `node` back to the parameter, along the one input that is not a constant."""
    while node.get_type_name() != "Parameter":
        yield node
        sources = [port.get_source_output().get_node() for port in node.inputs()]
        computed = [source for source in sources if source.get_type_name() != "Constant"]
        if len(computed) != 1:
            raise CannotExplain(f"its {node.get_type_name()} joins {len(computed)} branches.")
        node = computed[0]


def _append(layers: list[Layer], layer: Layer) -> None:
    """Appends a layer; merges a bias into the dense layer before it, which saves computing a value."""
    last = layers[-1] if layers else None
    if (
        isinstance(last, Dense)
        and last.bias is NO_BIAS
        and isinstance(layer, Affine)
        and layer.scale is ONE
    ):
        layers[-1] = Dense(last.kernel, layer.shift)
    else:
        layers.append(layer)


def _multiplied(node: ov.Node) -> Sequence[Layer]:
    attributes = node.get_attributes()
    if node.input_value(1).get_node().get_type_name() != "Constant" or attributes["transpose_a"]:
        raise CannotExplain("it multiplies matrices in an unusual way.")
    kernel = _constant(node, 1)
    return [Dense(kernel if attributes["transpose_b"] else kernel.T, NO_BIAS)]


def _added(node: ov.Node) -> Sequence[Layer]:
    return [Affine(ONE, _elementwise(node))]


def _subtracted(node: ov.Node) -> Sequence[Layer]:
    shift = _elementwise(node)
    is_from_constant = node.input_value(0).get_node().get_type_name() == "Constant"
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
    at = next(at for at in (0, 1) if node.input_value(at).get_node().get_type_name() == "Constant")
    constant = _constant(node, at)
    return constant[0] if constant.ndim == len(node.output(0).get_partial_shape()) else constant


def _constant(node: ov.Node, at: int) -> Array:
    constant: Array = _constant_of(node, at).astype(np.float32, copy=False)
    return constant


def _constant_of(node: ov.Node, at: int) -> NDArray[np.generic]:
    data: NDArray[np.generic] = node.input_value(at).get_node().data
    return data


READERS: dict[str, Callable[[ov.Node], Sequence[Layer]]] = {
    "Add": _added,
    "AvgPool": _pooled(is_average=True),
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
