"""Chooses the golden image of a version: the picture whose answer would reveal most faults of a head."""

import io
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.serving.pixels import decode
from service.store.card import Golden, Input

SIDE = 64
CANDIDATES = 8
MAX_PIXELS = 4_000_000

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def candidates(seed: int = 0) -> list[bytes]:
    """Small PNG files of smooth random colours, from few large patches to many small ones."""
    rng = np.random.default_rng(seed)
    files = []
    for cells in np.linspace(2, SIDE // 4, CANDIDATES).astype(int):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "PNG")
        files.append(file.getvalue())
    return files


def decoded(files: Sequence[bytes], spec: Input) -> NDArray[np.uint8]:
    """Decodes the pictures as the service does, (n, height, width, 3)."""
    return np.stack([decode.decode(file, spec, MAX_PIXELS) for file in files])


def choose_golden(files: Sequence[bytes], probabilities: NDArray[np.float32]) -> Golden:
    """Chooses the picture with the highest top probability; near-equal ones would hide most faults."""
    best = int(probabilities.max(axis=1).argmax())
    return Golden.model_construct(
        image=files[best], probabilities=tuple(map(float, probabilities[best]))
    )
