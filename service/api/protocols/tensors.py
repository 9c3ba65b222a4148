"""Describes a head's inputs and output as tensors, and converts JSON numbers to pixels."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.errors import BadParameter
from service.serving.loading import LoadedHead

PIXELS: Final = "pixels"
LARGEST = np.iinfo(np.uint8).max
FILES: Final = "image_bytes"
PROBABILITIES: Final = "probabilities"


@dataclass(frozen=True)
class Tensor:
    """An input or output, with a data type of Open Inference Protocol; -1 in a shape is any number."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def inputs_of(head: LoadedHead) -> tuple[Tensor, Tensor]:
    """The two input tensors of a head; a request sends one of them."""
    spec = head.card.input
    return Tensor(PIXELS, "UINT8", (-1, spec.height, spec.width, 3)), Tensor(FILES, "BYTES", (-1,))


def output_of(head: LoadedHead) -> Tensor:
    """The one output tensor of a head."""
    return Tensor(PROBABILITIES, "FP32", (-1, len(head.card.labels)))


def to_pixels(numbers: list[Any]) -> NDArray[np.uint8]:
    """Converts JSON numbers, nested or flat. Raises BadParameter for any but integers from 0 to 255."""
    try:
        # Without dtype=object each element would be as large as the longest text among them.
        given = np.asarray(numbers, object)
    except ValueError as exc:  # numpy raises it for rows of different lengths and for too many levels.
        raise BadParameter("pixels: the rows differ in length.") from exc
    is_numbers = {*map(type, given.flat)} <= {int, float}
    if not is_numbers or not ((given >= 0) & (given <= LARGEST)).all():
        raise BadParameter("pixels: not all are numbers from 0 to 255, or the rows differ in length.")
    pixels = given.astype(np.uint8)
    if (pixels != given).any():
        raise BadParameter("pixels: not all are whole numbers.")
    return pixels
