"""Image files: written by Pillow, or put together by hand where it writes no such file."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    """The file of an image, or of pixels; `options` are of Pillow's writer."""
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def rows_chunk(rows: bytes) -> bytes:
    """The chunk that holds all rows of a PNG file, each behind the byte of its filter."""
    return chunk(b"IDAT", zlib.compress(rows))


def png(width: int, height: int, *chunks: bytes, depth=8, colour=2, interlace=0) -> bytes:
    """A PNG file of these chunks between its header and its end."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG file whose header tells that size; it holds the pixels of a smaller one."""
    data = bytearray(encoded(Image.effect_noise((16, 16), 60).convert("RGB"), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def tiff(
    width: int, height: int, pixels: bytes, tags: dict[int, int] | None = None, following=0, order="<"
) -> bytes:
    """A TIFF file of one strip of 8-bit grey pixels; `tags` are added to its directory, or overwritten.

    `following` is where its directory says that the next one lies, and `order` that of bytes in numbers.
    """
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 279: len(pixels)} | (
        tags or {}
    )
    tags[273] = 14 + 12 * len(tags)
    entries = [struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(tags.items())]
    return (
        {"<": b"II*\0", ">": b"MM\0*"}[order]
        + struct.pack(f"{order}IH", 8, len(tags))
        + b"".join(entries)
        + struct.pack(f"{order}I", following)
        + pixels
    )
