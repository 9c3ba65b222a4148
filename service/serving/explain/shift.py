"""Moves the picture by a few pixels, to measure how much a head's answer depends on position."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Offset = tuple[int, int]

IN_PLACE: Offset = (0, 0)
STEPS = (-16, -8, 0, 8, 16)
GRID: tuple[Offset, ...] = tuple((right, down) for down in STEPS for right in STEPS)


@dataclass(frozen=True)
class Stability:
    """How the answers to the moved pictures differ from the answer to the unmoved picture.

    `kept` (offsets,) are the probabilities of the class that is likeliest in the unmoved picture; drifts
    are absolute differences of that probability.
    """

    stability: float
    drift_mean: float
    drift_max: float
    kept: NDArray[np.float32]


def moved(picture: NDArray[np.uint8], offset: Offset) -> NDArray[np.uint8]:
    """Moves a picture (height, width, 3) right and down by `offset` pixels, and repeats its edges."""
    if offset == IN_PLACE:
        return picture
    (height, width, _), (right, down) = picture.shape, offset
    y = np.clip(np.arange(height) - down, 0, height - 1)
    x = np.clip(np.arange(width) - right, 0, width - 1)
    return picture[y][:, x]


def stability_of(in_place: NDArray[np.float32], answers: Sequence[NDArray[np.float32]]) -> Stability:
    """Compares the probabilities (classes,) of the unmoved picture with those of each moved one."""
    top = int(in_place.argmax())
    kept = np.array([answer[top] for answer in answers])
    drift = np.abs(kept - in_place[top])
    is_same = [answer.argmax() == top for answer in answers]
    return Stability(float(np.mean(is_same)), float(drift.mean()), float(drift.max()), kept)
