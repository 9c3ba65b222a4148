"""Compressed bodies, undone with the limit of a body's size on what comes out."""

import zlib

from service.errors import BadParameter, BodyTooLarge

SMALL = 4 * 2**20  # of JSON takes less than a second to read, whatever it holds
RATIO = 4  # files of pictures are compressed already
WINDOWS = {"gzip": 31, "deflate": 15}  # zlib's wbits, which tell its containers apart


def largest(size: int, max_bytes: int) -> int:
    """What a compressed body of that size may become, in bytes."""
    return min(max_bytes, max(SMALL, RATIO * size))


def decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """What a body of that Content-Encoding holds; never more than one byte too much is made of it.

    Beyond SMALL it may not grow by more than RATIO: few bytes do not buy much work.

    Raises BodyTooLarge, and BadParameter for other encodings and for what is not one whole stream.
    """
    if encoding not in WINDOWS:
        raise BadParameter(f"Content-Encoding: {encoding!r} is neither gzip nor deflate.")
    max_bytes = largest(len(body), max_bytes)
    stream = zlib.decompressobj(WINDOWS[encoding])
    try:
        content = stream.decompress(body, max_bytes + 1)
    except zlib.error as exc:
        raise BadParameter(f"The body is not {encoding}.") from exc
    if len(content) > max_bytes:
        raise BodyTooLarge(max_bytes)
    if stream.unused_data or not stream.eof:
        raise BadParameter(f"The body is not one whole stream of {encoding}.")
    return content
