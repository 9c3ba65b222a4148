"""The table of hostile requests: another route or another body is another row."""

import zlib
from collections.abc import Callable
from dataclasses import replace
from random import Random

from fuzz.foreign import as_v1, as_v2_binary, as_v2_json, as_v2_raw
from fuzz.mutations import mutated
from fuzz.requests import Request, as_head_name, as_image, as_json, as_multipart, as_oddity

WINDOWS = {b"gzip": 31, b"deflate": 15, b"GZIP": 31, b" deflate ": 15}
ODD_ENCODINGS = (b"gzip", b"deflate", b"br", b"identity", b"gzip, gzip", b"", b"\xff", b"x" * 5000)


def as_compressed(rng: Random) -> Request:
    """Any of the others, compressed; damaged sometimes, or something else than its header says."""
    request = KINDS[rng.choice([kind for kind in KINDS if kind != "compressed"])][1](rng)
    encoding = rng.choice(tuple(WINDOWS))
    stream = zlib.compressobj(rng.choice((0, 1, 9)), wbits=WINDOWS[encoding])
    body = stream.compress(request.body) + stream.flush()
    if rng.random() < 0.2:
        body = rng.choice((mutated(rng, body), body * 2, body[2:], body + b"\0"))
    if rng.random() < 0.1:
        encoding = rng.choice(ODD_ENCODINGS)
    return replace(request, headers=(*request.headers, (b"content-encoding", encoding)), body=body)


KINDS: dict[str, tuple[int, Callable[[Random], Request]]] = {  # how many of a hundred
    "image": (30, as_image),
    "multipart": (12, as_multipart),
    "json": (10, as_json),
    "query and headers": (7, as_oddity),
    "name of a head": (3, as_head_name),
    "v2 in json": (9, as_v2_json),
    "v2 in binary": (10, as_v2_binary),
    "v2 of one file": (3, as_v2_raw),
    "v1": (8, as_v1),
    "compressed": (8, as_compressed),
}


def hostile(seed: int, number: int) -> tuple[str, Request]:
    """Kind and request of that number: the same whenever and in whatever order they are made."""
    rng = Random(f"{seed}/{number}")
    (kind,) = rng.choices(tuple(KINDS), [weight for weight, _ in KINDS.values()])
    return kind, KINDS[kind][1](rng)
