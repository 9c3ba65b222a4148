"""The picture that clients send: 640x480, JPEG, about as large as a photograph of that size."""

import io

import numpy as np
from PIL import Image

SIZE = (640, 480)
OCTAVES = {160: 60, 40: 30, 10: 16, 2: 10}  # cell in pixels: strength in levels
QUALITY = 92


def jpeg(seed: int = 0) -> bytes:
    """Smooth noise of several scales, so that it compresses as pictures do."""
    rng = np.random.default_rng(seed)
    width, height = SIZE
    pixels = np.full((height, width, 3), 128.0)
    for cell, strength in OCTAVES.items():
        for channel in range(3):
            noise = rng.normal(0, strength, (height // cell, width // cell)).astype(np.float32)
            pixels[..., channel] += Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
