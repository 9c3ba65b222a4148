"""What a stranger does to bytes: blind mutations, and those that respect a file's segments."""

from collections.abc import Callable
from random import Random

from fuzz import segments

Mutation = Callable[[Random, bytes], bytes]

EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
MAX_BYTES = 2**20


def _place(rng: Random, data: bytes) -> int:
    """Headers are where decoders decide: half of all places are among the first bytes."""
    return rng.randrange(min(len(data), 64) if rng.random() < 0.5 else len(data)) if data else 0


def flip_bits(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(min(len(data), rng.choice((1, 1, 2, 8, 64)))):
        changed[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def write_edge(rng: Random, data: bytes) -> bytes:
    """A number at the edge of what its field holds, as a length or a size might be."""
    at, width = _place(rng, data), rng.choice((1, 2, 4))
    number = rng.choice(EDGES) & (256**width - 1)
    return data[:at] + number.to_bytes(width, rng.choice(("little", "big"))) + data[at + width :]


def fill(rng: Random, data: bytes) -> bytes:
    at, length = _place(rng, data), rng.choice((1, 4, 16, 300))
    return data[:at] + bytes([rng.choice((0, 0xFF, rng.randrange(256)))]) * length + data[at + length :]


def truncate(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def cut(rng: Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice((1, 2, 7, 100)) :]


def repeat(rng: Random, data: bytes) -> bytes:
    at, length = _place(rng, data), rng.choice((1, 4, 32, 500))
    return data[:at] + data[at : at + length] * rng.choice((2, 3, 50)) + data[at + length :]


def insert(rng: Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 9, 200))) + data[at:]


def change_segment(rng: Random, data: bytes) -> bytes:
    """One segment's payload is changed; its length and checksum are right again."""
    parts = segments.split(data)
    at = rng.randrange(len(parts))
    parts[at] = parts[at].with_payload(rng.choice(BLIND)(rng, parts[at].payload))
    return segments.join(data, parts)


def move_segments(rng: Random, data: bytes) -> bytes:
    """Segments are dropped, doubled, or change places."""
    parts = segments.split(data)
    one, other = rng.randrange(len(parts)), rng.randrange(len(parts))
    what = rng.randrange(4)
    if what == 0:
        del parts[one]
    elif what == 1:
        parts[one:one] = [parts[other]] * rng.choice((1, 2, 100))
    elif what == 2:
        parts[one], parts[other] = parts[other], parts[one]
    else:
        del parts[one:]
    return segments.join(data, parts)


def lie_about_length(rng: Random, data: bytes) -> bytes:
    """One segment says that it is longer or shorter than it is."""
    parts = segments.split(data)
    at = rng.randrange(len(parts))
    lie = rng.choice((*EDGES, parts[at].length - 1, parts[at].length + 1))
    parts[at] = parts[at].claiming(max(0, lie))
    return segments.join(data, parts)


BLIND: tuple[Mutation, ...] = (flip_bits, write_edge, fill, truncate, cut, repeat, insert)
AWARE: tuple[Mutation, ...] = (change_segment, move_segments, lie_about_length)


def mutated(rng: Random, data: bytes) -> bytes:
    """Some mutations, one after the other."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        known = segments.split(data)
        data = rng.choice(BLIND + AWARE * 2 if known else BLIND)(rng, data)
    return data[:MAX_BYTES]


def spliced(rng: Random, one: bytes, other: bytes) -> bytes:
    """The beginning of one and the end of another."""
    return one[: rng.randrange(len(one))] + other[rng.randrange(len(other)) :]
