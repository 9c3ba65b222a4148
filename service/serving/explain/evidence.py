"""The evidence map: how much each position of the feature map adds to the logit of a class.

A head of dense layers, ReLU and pooling is piecewise linear: at a given map f its logit is exactly the
sum over positions and channels of w(i,j,c) f(i,j,c), plus a constant that only biases contribute to.
Summed over channels this is the evidence map. For one dense layer after global average pooling it is the
class activation map of Zhou et al. 2016 (arXiv:1512.04150), divided by the number of positions. A
Flatten head has such a map too, with separate weights at each position, which goes beyond that paper;
for ReLU layers it is gradient times input, with the biases' part as in FullGrad (Srinivas and Fleuret
2019, arXiv:1905.00780).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import CannotExplain
from service.serving.batcher import Trace
from service.serving.explain.layers import Layer, forward_through, pull_through
from service.store.card import Output

TOLERANCE = 1e-4  # The largest error of the sum, relative to logits larger than 1.


@dataclass(frozen=True)
class Evidence:
    """The evidence for class `index`: `grid` (height, width) and `constant` sum to `logit`."""

    index: int
    grid: NDArray[np.float64]
    constant: float
    logit: float


def evidence_of(layers: Sequence[Layer], trace: Trace, output: Output, index: int) -> Evidence:
    """The evidence for the class `index` in one image.

    If one sigmoid decides between two classes, the logit of the first is minus that of the second.
    Raises CannotExplain if grid and constant do not sum to the engine's logit.
    """
    unit, sign = (0, 2 * index - 1) if output.is_one_unit else (index, 1)
    weights = np.zeros(trace.logits.shape, np.float32)
    weights[unit] = sign
    values = forward_through(layers[:-1], trace.features)
    weights, constant = pull_through(layers, weights, values)
    grid = np.multiply(weights, trace.features, dtype=np.float64).sum(axis=-1)
    evidence = Evidence(index, grid, constant, sign * float(trace.logits[unit]))
    if not _residual(evidence) <= TOLERANCE:
        raise CannotExplain("its evidence does not add up to its logit.")
    return evidence


def _residual(evidence: Evidence) -> float:
    missing = float(evidence.grid.sum()) + evidence.constant - evidence.logit
    return abs(missing) / max(1.0, abs(evidence.logit))
