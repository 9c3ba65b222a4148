"""The inputs of a head's first Dense: pooled features, standardised by the training split."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from service.lab.data.features import FeatureCache
from service.lab.data.photographs import Photograph
from service.lab.training.head_spec import HeadSpec

BATCH = 32
MAX_BYTES_IN_MEMORY = 256 * 2**20
TINY = 1e-12  # Avoids a division by zero where a feature does not vary.

Values = NDArray[np.float32]
Classes = NDArray[np.int64]


@dataclass(frozen=True)
class Moments:
    """Mean and scale of each pooled value, (values,)."""

    mean: Values
    scale: Values

    def standardised(self, values: Values) -> Values:
        """Shifts and scales the values to mean 0 and about unit standard deviation."""
        return (values - self.mean) * self.scale


class PooledFeatures:
    """Pooled features of photographs; read from disk each time if too large for memory."""

    def __init__(
        self,
        cache: FeatureCache,
        spec: HeadSpec,
        photographs: Sequence[Photograph],
        max_bytes: int = MAX_BYTES_IN_MEMORY,
    ) -> None:
        features = keras.Input(cache.shape)
        self._pool = keras.Model(features, spec.pooled(features))
        self._cache = cache
        self._photographs = photographs
        self.width: int = self._pool.output_shape[-1]
        self.labels = np.array([one.label for one in photographs])
        self._kept: Values | None = None
        if 4 * self.width * len(photographs) <= max_bytes:
            self._kept = np.concatenate([values for values, _ in self.batches()])

    def __len__(self) -> int:
        return len(self._photographs)

    def __getitem__(self, rows: NDArray[np.intp]) -> Values:
        """The values of the photographs `rows`, (n, width)."""
        return self._compute(rows) if self._kept is None else self._kept[rows]

    def batches(self, order: NDArray[np.intp] | None = None) -> Iterator[tuple[Values, Classes]]:
        """Yields batches of values and classes, of all photographs or in the given `order`."""
        rows = np.arange(len(self)) if order is None else order
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            yield self[some], self.labels[some]

    def moments(self) -> Moments:
        """Mean and scale; the mean spread is added to each, so that constant values stay small."""
        total, squares = np.zeros((2, self.width))
        for batch, _ in self.batches():
            values = batch.astype(np.float64)
            total += values.sum(axis=0)
            squares += np.square(values).sum(axis=0)
        mean = total / len(self)
        spread = np.sqrt(np.maximum(squares / len(self) - np.square(mean), 0))
        scale = 1 / (spread + spread.mean() + TINY)
        return Moments(mean.astype(np.float32), scale.astype(np.float32))

    def _compute(self, rows: NDArray[np.intp]) -> Values:
        features = self._cache.read([self._photographs[row] for row in rows])
        values: Values = keras.ops.convert_to_numpy(self._pool(features))
        return values
