"""Decodes image bytes to a head's input pixels. No other module decodes images; resize.py resizes."""

import io
import logging
import re
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import Transpose
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, TILELENGTH, TILEWIDTH, TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from service.errors import ImageError, ImageTooLarge, NotAnImage
from service.serving.pixels.resize import RESIZE, covering_size
from service.store.card import Input

Image.MAX_IMAGE_PIXELS = None  # check_size replaces Pillow's own limit by the caller's.
# Hostile metadata would fill the log with these warnings.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)

# Progressive JPEGs have about 10 scans. A file of 140 KB with 1,000 scans of 25 million pixels takes
# 18 s to decode.
MAX_JPEG_PASSES = 10


class StillGif(GifImageFile):
    """Reads the first frame only: for a second one Pillow would allocate up to 4 GB on opening."""

    @property
    def disposal_method(self) -> int:
        return 0

    @disposal_method.setter
    def disposal_method(self, value: int) -> None:
        pass


PLUGINS: dict[bytes, type[ImageFile]] = {
    rb"\xff\xd8\xff": JpegImageFile,
    rb"\x89PNG\r\n\x1a\n": PngImageFile,
    rb"RIFF....WEBP": WebPImageFile,
    rb"GIF8[79]a": StillGif,
    rb"BM": BmpImageFile,
    rb"II\*\0|MM\0\*": TiffImageFile,
}

UPRIGHT: dict[object, Transpose] = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


Spend = Callable[[int], None]


def pixels_of(
    picture: bytes | NDArray[np.uint8], spec: Input, max_pixels: int, spend: Spend
) -> NDArray[np.uint8]:
    """Decodes a file, or checks given pixels. Raises NotAnImage for a wrong shape, or as `decode`."""
    if isinstance(picture, bytes):
        return decode(picture, spec, max_pixels, spend)
    if picture.shape != (shape := (spec.height, spec.width, 3)):
        raise NotAnImage(f"pixels of shape {list(picture.shape)} are not the {list(shape)} of the head.")
    return picture


def decode(
    data: bytes, spec: Input, max_pixels: int, spend: Spend = lambda _: None
) -> NDArray[np.uint8]:
    """Decodes the first frame of `data` to uint8 RGB, C-contiguous, (spec.height, spec.width, 3).

    Colours are converted to RGB as in Keras' own loader (Pillow's `convert`): grey is repeated; CMYK,
    YCbCr, LAB and palettes are converted; alpha and transparency are dropped, not blended; 1 bit becomes
    0 or 255. Unlike there, 16-bit grey keeps its high byte instead of clipping at 255, EXIF orientation
    is applied where `spec` says so (always in TIFF; an unreadable EXIF block is ignored), and pixels
    without a defined white level (signed, 32-bit, floating) are refused. `spend` is called with the
    number of pixels before they are decoded, and may raise. Raises ImageTooLarge if the header declares
    more than `max_pixels`, else NotAnImage.
    """
    try:
        image = read_image(data, spec, max_pixels, spend)
    except (ImageError, MemoryError):  # Lack of memory is not the sender's fault.
        raise
    except Exception as exc:  # Pillow answers hostile bytes with almost any exception.
        raise NotAnImage("the image is broken or truncated.") from exc
    return RESIZE[spec.resize](image, spec.width, spec.height)


def read_image(data: bytes, spec: Input, max_pixels: int, spend: Spend) -> Image.Image:
    image = open_image(data, max_pixels)
    spend(image.width * image.height)
    if spec.decode == "scaled" and isinstance(image, JpegImageFile):
        image.draft(None, needed_size(image, spec))
    image.load()
    turn = UPRIGHT.get(orientation(image, spec))
    rgb = to_rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


def open_image(data: bytes, max_pixels: int) -> ImageFile:
    """Reads the header, and refuses images that would take too much memory or time to decode."""
    plugin = find_plugin(data)
    # Pillow allocates the canvas of an extended WebP while opening it.
    if plugin is WebPImageFile and data[12:16] == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        check_size(width, height, max_pixels)
    if plugin is TiffImageFile and is_tiled(data):
        raise NotAnImage("tiled TIFF images are not accepted.")
    image = plugin(io.BytesIO(data))
    check_size(image.width, image.height, max_pixels)
    passes = data.count(b"\xff\xda") if plugin is JpegImageFile else 1
    if passes * image.width * image.height > MAX_JPEG_PASSES * max_pixels:
        raise NotAnImage(f"the JPEG image has {passes} scans, too many for its size.")
    # Pillow decodes these in Python, which takes 7 s for 29 KB that hold 49 million pixels.
    if image.tile and image.tile[0][0] == "bmp_rle":
        raise NotAnImage("run-length encoded BMP images are not accepted.")
    return image


def find_plugin(data: bytes) -> type[ImageFile]:
    if not data:
        raise NotAnImage("the image is empty.")
    for signature, plugin in PLUGINS.items():
        if re.match(signature, data, re.DOTALL):
            return plugin
    raise NotAnImage("not a JPEG, PNG, WebP, GIF, BMP or TIFF image.")


def check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageTooLarge(f"{width} x {height} pixels are more than the {max_pixels} allowed.")


def is_tiled(data: bytes) -> bool:
    """Whether the first TIFF directory has tiles, which may need 2 GB each even in a 1 x 1 image.

    It parses the bytes itself, because libtiff obeys tags that Pillow's parser skips.
    """
    order: Literal["little", "big"] = "little" if data[:1] == b"I" else "big"
    start = int.from_bytes(data[4:8], order)
    entries = int.from_bytes(data[start : start + 2], order)
    offsets = range(start + 2, start + 2 + 12 * entries, 12)
    return any(int.from_bytes(data[at : at + 2], order) in (TILEWIDTH, TILELENGTH) for at in offsets)


def needed_size(image: ImageFile, spec: Input) -> tuple[int, int]:
    """The least width and height, in the file's orientation, that the resize need not enlarge."""
    size = spec.width, spec.height
    is_turned = orientation(image, spec) in (5, 6, 7, 8)
    if spec.resize == "center_crop":
        size = covering_size(image.size[::-1] if is_turned else image.size, size)
    return size[::-1] if is_turned else size


def orientation(image: ImageFile, spec: Input) -> object:
    """The EXIF orientation that `spec` wants applied, or None."""
    return None if spec.exif == "ignored" else exif_orientation(image)


def is_turned(data: bytes, max_pixels: int) -> bool:
    """Whether the pixels of `data` depend on `spec.exif`. Only the header is read. Raises as `decode`.

    An orientation that a PNG file has behind its pixels is not found.
    """
    try:
        image = open_image(data, max_pixels)
        if isinstance(image, TiffImageFile):
            return False  # Pillow itself turns these.
        if isinstance(image, PngImageFile) and "exif" not in image.info:
            return False  # Pillow would decode the pixels to look behind them.
        return exif_orientation(image) in UPRIGHT
    except (ImageError, MemoryError):
        raise
    except Exception as exc:
        raise NotAnImage("the image is broken or truncated.") from exc


def exif_orientation(image: ImageFile) -> object:
    """The orientation's tag, or None. Its value may be of any type."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return None


def to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        raise NotAnImage("signed, 32-bit and floating-point pixels are not accepted.")
    if image.mode.startswith("I;16"):
        image = high_byte(image)
    if image.mode == "La":
        image = image.convert("LA")
    image.info.pop("transparency", None)  # Image.convert would warn about it.
    return image if image.mode == "RGB" else image.convert("RGB")


def high_byte(image: Image.Image) -> Image.Image:
    bits = image.tag_v2[BITSPERSAMPLE][0] if isinstance(image, TiffImageFile) else 16
    return Image.fromarray((np.asarray(image) >> (bits - 8)).astype(np.uint8))
