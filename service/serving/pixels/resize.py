"""Resizes a picture to a head's input size; each function reproduces one training loader."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling

from service.store.card import Resize

CHANNELS = 3


def bilinear(image: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    return np.asarray(image.resize((width, height), Resampling.BILINEAR))


def load_img(image: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    return np.asarray(image.resize((width, height), Resampling.NEAREST))


def image_dataset(image: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    """Resizes as tf.image.resize does, and rounds. Pillow truncates, which is half a level too dark."""
    pixels = np.asarray(image)
    left, right, x = neighbours(image.width, width)
    upper, lower, y = neighbours(image.height, height)
    x = x.repeat(CHANNELS)  # numpy is slow where the last axis is as short as three channels.

    def across(rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        start, end = (rows.take(columns, axis=1).reshape(height, -1) for columns in (left, right))
        return between(start, end, x)

    top, bottom = across(pixels[upper]), across(pixels[lower])
    resized = np.rint(between(top, bottom, y[:, None])).astype(np.uint8)
    return resized.reshape(height, width, CHANNELS)


def neighbours(size: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """The two old pixels around each of `count` new ones, and the distance from the first."""
    at = (np.arange(count, dtype=np.float32) + 0.5) * np.float32(size / count) - 0.5
    before = np.floor(at)
    index = before.astype(np.intp)
    return index.clip(0), (index + 1).clip(0, size - 1), at - before


def between(start: NDArray[Any], end: NDArray[Any], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    values = start.astype(np.float32)
    values += (end - values) * weight
    return values


def center_crop(image: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    """Resizes to `covering_size` and crops the centre."""
    wide, high = covering_size(image.size, (width, height))
    x, y = image.width / wide, image.height / high
    left, top = (wide - width) // 2 * x, (high - height) // 2 * y
    # Resize only the part that is kept: all of a picture of 65,500 x 1 would be 17 million pixels wide.
    box = (left, top, min(left + width * x, image.width), min(top + height * y, image.height))
    return np.asarray(image.resize((width, height), Resampling.BILINEAR, box))


def covering_size(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The least size with the aspect ratio of `size` that covers 256/224 of `target` in both axes."""
    (width, height), (wide, high) = size, (round(side * 256 / 224) for side in target)
    if width * high >= height * wide:
        return width * high // height, high
    return wide, height * wide // width


RESIZE: dict[Resize, Callable[[Image.Image, int, int], NDArray[np.uint8]]] = {
    "bilinear": bilinear,
    "load_img": load_img,
    "image_dataset": image_dataset,
    "center_crop": center_crop,
}
