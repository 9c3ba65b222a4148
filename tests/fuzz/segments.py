"""Takes image files apart into the segments that decoders read, and puts them together again.

Only as far as a mutation needs it: what comes after the last segment that is understood is one more.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

PNG, JPEG, RIFF, TIFF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"RIFF", (b"II*\0", b"MM\0*")
BARE = {0xD8, 0xD9, 0x01, *range(0xD0, 0xD8)}  # JPEG markers without a length


@dataclass(frozen=True)
class Segment:
    """`claim` is a length that is told instead of the payload's."""

    kind: bytes
    payload: bytes
    claim: int | None = None

    @property
    def length(self) -> int:
        return len(self.payload) if self.claim is None else self.claim

    def with_payload(self, payload: bytes) -> "Segment":
        return replace(self, payload=payload)

    def claiming(self, length: int) -> "Segment":
        return replace(self, claim=length)


def split(data: bytes) -> list[Segment]:
    """The segments of a PNG, JPEG, WebP or TIFF file; none for anything else."""
    if data.startswith(PNG):
        return list(_chunks(data, len(PNG), ">", 4))
    if data.startswith(JPEG):
        return list(_markers(data))
    if data.startswith(RIFF):
        return list(_chunks(data, 12, "<", 0))
    return list(_entries(data)) if data[:4] in TIFF else []


def join(data: bytes, parts: list[Segment]) -> bytes:
    """A file like `data` of these segments: lengths, checksums and the file's own size are right."""
    if data.startswith(PNG):
        return PNG + b"".join(map(_png_chunk, parts))
    if data.startswith(JPEG):
        return b"".join(map(_jpeg_marker, parts))
    if data.startswith(RIFF):
        body = b"".join(map(_riff_chunk, parts))
        return RIFF + struct.pack("<I", 4 + len(body)) + data[8:12] + body
    return _tiff(data, parts)


def _chunks(data: bytes, at: int, order: str, checksum: int) -> Iterator[Segment]:
    """PNG: length, kind, payload, checksum. RIFF: kind, length, payload, padded to an even length."""
    while at + 8 <= len(data):
        first, second = data[at : at + 4], data[at + 4 : at + 8]
        told, kind = (first, second) if checksum else (second, first)
        (length,) = struct.unpack(f"{order}I", told)
        yield Segment(kind, data[at + 8 : at + 8 + length])
        at += 8 + length + (checksum or length % 2)


def _png_chunk(part: Segment) -> bytes:
    checksum = zlib.crc32(part.kind + part.payload)
    told = struct.pack(">I", part.length & 0xFFFFFFFF)
    return told + part.kind + part.payload + struct.pack(">I", checksum)


def _riff_chunk(part: Segment) -> bytes:
    return (
        part.kind
        + struct.pack("<I", part.length & 0xFFFFFFFF)
        + part.payload
        + bytes(len(part.payload) % 2)
    )


def _markers(data: bytes) -> Iterator[Segment]:
    at = 0
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind = data[at : at + 2]
        if kind[1] in BARE:
            yield Segment(kind, b"")
            at += 2
            continue
        length = max(2, int.from_bytes(data[at + 2 : at + 4]))
        yield Segment(kind, data[at + 4 : at + 2 + length])
        at += 2 + length
        if kind[1] == 0xDA:  # what follows is coded, up to the next marker
            break
    if at < len(data):
        yield Segment(b"", data[at:])


def _jpeg_marker(part: Segment) -> bytes:
    if not part.kind or part.kind[1] in BARE:
        return part.kind + part.payload
    return part.kind + struct.pack(">H", (2 + part.length) & 0xFFFF) + part.payload


def _entries(data: bytes) -> Iterator[Segment]:
    """Of the first directory; `kind` is an entry's tag and type, the payload its count and value."""
    order = "little" if data[:1] == b"I" else "big"
    start = int.from_bytes(data[4:8], order)
    count = int.from_bytes(data[start : start + 2], order)
    for at in range(start + 2, min(start + 2 + 12 * count, len(data) - 11), 12):
        yield Segment(data[at : at + 4], data[at + 4 : at + 12])


def _tiff(data: bytes, parts: list[Segment]) -> bytes:
    """The old file, and a new directory of these entries behind it: all offsets stay what they were."""
    order = "<" if data[:1] == b"I" else ">"
    entries = [part.kind + _value(order, part) for part in parts]
    directory = struct.pack(f"{order}H", len(entries) & 0xFFFF) + b"".join(entries) + bytes(4)
    return data[:4] + struct.pack(f"{order}I", len(data)) + data[8:] + directory


def _value(order: str, part: Segment) -> bytes:
    value = part.payload[:8].ljust(8, b"\0")
    return value if part.claim is None else struct.pack(f"{order}I", part.claim & 0xFFFFFFFF) + value[4:]
