"""Draws an evidence map over the picture in the head's input size."""

import io
import json
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from service.serving.explain.evidence import Evidence

COLOURS = np.array(json.loads(files("service").joinpath("assets/vik.json").read_text()), np.uint8)
MIDDLE = (len(COLOURS) - 1) / 2

OPACITY = 0.6
MIN_SIDE = 448  # Smaller pictures are enlarged, so that a legend fits beside them.
MAX_TITLE = 200
MARGIN = 12
BAR_HEIGHT = 14
TEXT_SIZE = 15  # All sizes here are in pixels.
LEGEND_HEIGHT = 3 * MARGIN + BAR_HEIGHT + 2 * TEXT_SIZE


def draw(pixels: NDArray[np.uint8], evidence: Evidence, title: str) -> bytes:
    """Returns a PNG: `pixels` (height, width, 3) under the map's cells, with a legend below.

    Blue cells are evidence against the class and red ones for it, on a scale that is symmetric about
    zero.
    """
    zoom = max(1, -(-MIN_SIDE // pixels.shape[1]))
    size = zoom * pixels.shape[1], zoom * pixels.shape[0]
    picture = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    cells = Image.fromarray(colours(evidence.grid)).resize(size, Image.Resampling.NEAREST)
    whole = Image.new("RGB", (size[0], size[1] + LEGEND_HEIGHT), "white")
    whole.paste(Image.blend(picture, cells, OPACITY))
    _legend(whole, size[1], float(np.abs(evidence.grid).max()), title)
    png = io.BytesIO()
    whole.save(png, "png")
    return png.getvalue()


def colours(grid: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Maps (height, width) to RGB (height, width, 3); zero is the middle of the scale, nearly white."""
    largest = np.abs(grid).max() or 1.0
    cells: NDArray[np.uint8] = COLOURS[np.rint(MIDDLE * (1 + grid / largest)).astype(int)]
    return cells


def _legend(image: Image.Image, top: int, largest: float, title: str) -> None:
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(TEXT_SIZE)
    width = image.width - 2 * MARGIN
    scale = Image.fromarray(COLOURS[np.newaxis]).resize((width, BAR_HEIGHT), Image.Resampling.NEAREST)
    bar_top = top + 2 * MARGIN + TEXT_SIZE
    image.paste(scale, (MARGIN, bar_top))
    pen.text((MARGIN, top + MARGIN), _fitted(title, font, width), "black", font)
    below = bar_top + BAR_HEIGHT + 2
    for text, x, anchor in (
        (f"{-largest:.3g}", MARGIN, "la"),
        ("0", image.width / 2, "ma"),
        (f"+{largest:.3g}", image.width - MARGIN, "ra"),
    ):
        pen.text((x, below), text, "black", font, anchor)


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, truncated if it is wider than `width` pixels."""
    text = text[:MAX_TITLE]
    shown = len(text)
    while font.getlength(text[:shown] + "..." * (shown < len(text))) > width:
        shown -= 1
    return text if shown == len(text) else text[:shown] + "..."
