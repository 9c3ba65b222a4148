"""Computes trained heads' answers on the test split, from float32 features that are not cached."""

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
    """The classes (n,) of readable pictures, and the probabilities (n, classes) of each head."""

    truth: NDArray[np.int64]
    probabilities: list[NDArray[np.float32]]


def answers(
    network: Network,
    decoded: Decoded,
    photographs: Sequence[Photograph],
    heads: Sequence[keras.Model],
    by: int = 0,
) -> Generator[None, None, Answers]:
    """Runs every head on every picture, moved by `by` pixels. Yields after each batch."""
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
    """Moves pictures (n, height, width, 3) right, down, left or up in turn; repeats their edges.

    `first` is the index of the first picture, so that the result does not depend on batches.
    """
    result = np.empty_like(pixels)
    for row, (number, picture) in zip(result, enumerate(pixels, first), strict=True):
        right, down = DIRECTIONS[number % len(DIRECTIONS)]
        row[:] = shift.moved(picture, (by * right, by * down))
    return result
