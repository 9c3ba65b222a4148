"""What trained heads make of the test split: float32 features, computed for this alone and not kept."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from service.lab.data.features import Decoded
from service.lab.data.photographs import Photograph
from service.serving.engines import Network
from service.serving.explain import shift

SHIFTS = (8, 16, 32)
DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))


@dataclass(frozen=True)
class Answers:
    """Of pictures that could be read: their classes (n,), and (n, classes) of each head."""

    truth: NDArray[np.int64]
    probabilities: list[NDArray[np.float32]]


def answers(
    network: Network,
    decoded: Decoded,
    photographs: Sequence[Photograph],
    heads: Sequence[keras.Model],
    by: int = 0,
) -> Generator[None, None, Answers]:
    """Every head on every picture, each moved `by` pixels. Yields after each batch."""
    truth: list[int] = []
    rows: list[list[NDArray[np.float32]]] = [[] for _ in heads]
    for ones, pixels in decoded.batches(photographs):
        features = network(moved_in_turn(pixels, by, len(truth))).copy()
        for mine, head in zip(rows, heads, strict=True):
            mine.append(keras.ops.convert_to_numpy(head(features, training=False)))
        truth += [one.label for one in ones]
        yield
    return Answers(np.array(truth), [np.concatenate(mine) for mine in rows])


def moved_in_turn(pixels: NDArray[np.uint8], by: int, first: int = 0) -> NDArray[np.uint8]:
    """Pictures (n, height, width, 3) moved right, down, left or up in turn; edges are repeated.

    `first` is the number of the first of them, so that batches do not matter.
    """
    result = np.empty_like(pixels)
    for row, (number, picture) in zip(result, enumerate(pixels, first), strict=True):
        right, down = DIRECTIONS[number % len(DIRECTIONS)]
        row[:] = shift.moved(picture, (by * right, by * down))
    return result
