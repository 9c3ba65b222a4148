"""The layers of a head in numpy, each linear or piecewise linear, for one image at a time.

Each layer computes its output, and propagates weights on its outputs back to its inputs.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Layer(Protocol):
    """At every input x, forward(x) = A x + b with a matrix A and a b that is made of biases."""

    def forward(self, x: Array) -> Array:
        """Computes A x + b."""

    def pull(self, weights: Array, x: Array, /) -> tuple[Array, float]:
        """Propagates weights on the outputs back to the inputs: weights times A, and weights times b."""


@dataclass(frozen=True, eq=False)
class Dense:
    """A dense layer over the last axis: `kernel` (outputs, inputs), `bias` (outputs,).

    Each row of the kernel, which may be int8, is multiplied by its `scale` (outputs,) where it is used.
    """

    kernel: NDArray[np.float32 | np.int8]
    bias: Array
    scale: Array | float = 1.0

    def forward(self, x: Array) -> Array:
        return x @ self.kernel.T * self.scale + self.bias

    def pull(self, weights: Array, _: Array, /) -> tuple[Array, float]:
        constant = total(weights * self.bias)
        weights = weights * self.scale
        used = np.flatnonzero(weights)
        # Multiply one row instead of the whole kernel for one class.
        if weights.ndim == 1 and used.size == 1:
            return self.kernel[used[0]] * weights[used[0]], constant
        return weights @ self.kernel, constant


@dataclass(frozen=True, eq=False)
class Affine:
    """Computes x * scale + shift elementwise; both broadcast to the shape of x."""

    scale: Array
    shift: Array

    def forward(self, x: Array) -> Array:
        return x * self.scale + self.shift

    def pull(self, weights: Array, _: Array, /) -> tuple[Array, float]:
        return weights * self.scale, total(weights * self.shift)


@dataclass(frozen=True, eq=False)
class Rectified:
    """Computes x where it is positive, else slope * x: ReLU with slope 0, else leaky ReLU."""

    slope: Array

    def forward(self, x: Array) -> Array:
        return np.where(x > 0, x, self.slope * x)

    def pull(self, weights: Array, x: Array, /) -> tuple[Array, float]:
        return np.where(x > 0, weights, self.slope * weights), 0.0


@dataclass(frozen=True)
class Transposed:
    """Permutes the axes."""

    axes: tuple[int, ...]

    def forward(self, x: Array) -> Array:
        return x.transpose(self.axes)

    def pull(self, weights: Array, _: Array, /) -> tuple[Array, float]:
        return weights.transpose(np.argsort(self.axes)), 0.0


@dataclass(frozen=True)
class Reshaped:
    """Changes the shape."""

    shape: tuple[int, ...]

    def forward(self, x: Array) -> Array:
        return x.reshape(self.shape)

    def pull(self, weights: Array, x: Array, /) -> tuple[Array, float]:
        return weights.reshape(x.shape), 0.0


@dataclass(frozen=True)
class Pooled:
    """Takes the mean or the maximum of each window over axes `first_axis` and `first_axis` + 1.

    The windows are the products of `rows` and `columns`, and do not include padding.
    """

    is_average: bool
    first_axis: int
    rows: tuple[slice, ...]
    columns: tuple[slice, ...]

    def forward(self, x: Array) -> Array:
        cells = self._spatial_first(x)
        pool = np.mean if self.is_average else np.max
        pooled = [[pool(cells[r, c], axis=(0, 1)) for c in self.columns] for r in self.rows]
        return self._back(np.array(pooled, np.float32))

    def pull(self, weights: Array, x: Array, /) -> tuple[Array, float]:
        cells, outputs = self._spatial_first(x), self._spatial_first(weights)
        result = np.zeros_like(cells)
        for i, r in enumerate(self.rows):
            for j, c in enumerate(self.columns):
                window = cells[r, c]
                share = (
                    1 / (window.shape[0] * window.shape[1]) if self.is_average else is_first_max(window)
                )
                result[r, c] += outputs[i, j] * share
        return self._back(result), 0.0

    def _spatial_first(self, x: Array) -> Array:
        return np.moveaxis(x, (self.first_axis, self.first_axis + 1), (0, 1))

    def _back(self, x: Array) -> Array:
        return np.moveaxis(x, (0, 1), (self.first_axis, self.first_axis + 1))


@dataclass(frozen=True, eq=False)
class Joined:
    """Branches of layers that begin at one value: their outputs are concatenated or added.

    `axis` is that of the concatenation; None adds the outputs, which then have one shape.
    """

    branches: tuple[Sequence[Layer], ...]
    axis: int | None

    def forward(self, x: Array) -> Array:
        outputs = [forward_through(branch, x)[-1] for branch in self.branches]
        if self.axis is None:
            return functools.reduce(np.add, outputs)
        return np.concatenate(outputs, self.axis)

    def pull(self, weights: Array, x: Array, /) -> tuple[Array, float]:
        pulled, constant = np.zeros_like(x), 0.0
        for branch, inputs, part in self._parts(weights, x):
            of_branch, bias = pull_through(branch, part, inputs)
            pulled, constant = pulled + of_branch, constant + bias
        return pulled, constant

    def _parts(
        self, weights: Array, x: Array
    ) -> Iterator[tuple[Sequence[Layer], Sequence[Array], Array]]:
        """Each branch with the values in it, and the weights on its output."""
        at = 0
        for branch in self.branches:
            values = forward_through(branch, x)
            if self.axis is None:
                yield branch, values, weights
                continue
            end = at + values[-1].shape[self.axis]
            yield branch, values, np.take(weights, range(at, end), self.axis)
            at = end


def forward_through(layers: Sequence[Layer], x: Array) -> list[Array]:
    """The inputs of each layer, and the output of the last."""
    return list(accumulate(layers, lambda value, layer: layer.forward(value), initial=x))


def pull_through(
    layers: Sequence[Layer], weights: Array, values: Sequence[Array]
) -> tuple[Array, float]:
    """Propagates weights on the output of the last layer back to the input of the first.

    `values` are the inputs of the layers, as `forward_through` gives them.
    """
    constant = 0.0
    for layer, x in reversed(list(zip(layers, values, strict=False))):
        weights, bias = layer.pull(weights, x)
        constant += bias
    return weights, constant


def windows(size: int, side: int, stride: int, outputs: int, padded: int = 0) -> tuple[slice, ...]:
    """The windows along an axis of `size` with `padded` cells before it, clipped to the axis."""
    starts = (number * stride - padded for number in range(outputs))
    return tuple(slice(max(start, 0), min(start + side, size)) for start in starts)


def is_first_max(window: Array) -> Array:
    """1 at the first maximum of each channel, else 0, for a window (rows, columns, channels)."""
    flat = window.reshape(-1, window.shape[-1])
    chosen: Array = np.equal(np.arange(len(flat))[:, np.newaxis], flat.argmax(axis=0)).astype(np.float32)
    return chosen.reshape(window.shape)


def total(products: Array) -> float:
    return float(products.sum(dtype=np.float64))
