"""Hostile requests to the routes of our own, a row of kinds.py each."""

import base64
import json
from dataclasses import dataclass
from random import Random
from urllib.parse import quote, unquote

from fuzz.mutations import flip_bits, mutated, spliced
from fuzz.pictures import pictures

BOUNDARY = b"x-boundary-x"
MULTIPART = b"multipart/form-data; boundary=" + BOUNDARY
IMAGE_ROUTES = ("/predict", "/predict", "/compare", "/explain", "/explain?format=png", "/shift")
ODD_VALUES = (
    None, True, -1, 0, 1e400, 10**400, 2**63, 0.5, "", "gap", "\0", "\ud800", "a" * 5000, "..",
    [], [[]], {}, [None] * 999,
)  # fmt: skip
ODD_TEXT = (
    b"", b"\xff\xfe", b"a" * 9000, b"%00", b"../../etc/passwd", b"1e9", b"NaN", b"-1", b"{}",
    b"\xe2\x80\xae", b"9" * 5000,
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """`route` is the path as openapi.yaml has it."""

    route: str
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    method: str = "post"
    path: str | None = None


def picture(rng: Random) -> bytes:
    """A mutated picture, or the head of one and the tail of another."""
    one, other = rng.choices(tuple(pictures().values()), k=2)
    return spliced(rng, one, other) if rng.random() < 0.05 else mutated(rng, one)


def as_image(rng: Random) -> Request:
    route, _, query = rng.choice(IMAGE_ROUTES).partition("?")
    return Request(route, query.encode(), body=picture(rng))


def _part(rng: Random, name: bytes, content: bytes) -> bytes:
    disposition = b'form-data; name="' + name + b'"'
    if name == b"file":
        disposition += (
            b'; filename="' + rng.choice((b"a.png", b"", b"../../a", b"\xff", b'a";x="')) + b'"'
        )
    head = b"Content-Disposition: " + disposition
    if rng.random() < 0.2:
        head += b"\r\n" + rng.choice(
            (b"Content-Type: image/png", b"X: " + rng.choice(ODD_TEXT), b":", b"\0")
        )
    return b"--" + BOUNDARY + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def as_multipart(rng: Random) -> Request:
    """Files and fields, good or not, whose framing may be damaged as well."""
    parts = [_part(rng, b"file", picture(rng)) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
    for name in rng.sample(
        (b"head", b"top_k", b"heads", b"nobody", b"file", b""), rng.choice((0, 0, 1, 2))
    ):
        parts.append(_part(rng, name, rng.choice(ODD_TEXT)))
    rng.shuffle(parts)
    body = b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"
    if rng.random() < 0.4:
        body = mutated(rng, body)
    content_type = flip_bits(rng, MULTIPART) if rng.random() < 0.1 else MULTIPART
    return Request(
        rng.choice(("/predict", "/compare", "/shift")),
        headers=((b"content-type", content_type),),
        body=body,
    )


def odd_value(rng: Random, depth: int = 0) -> object:
    """Anything that JSON can say, and some that it cannot."""
    if depth < 4 and rng.random() < 0.2:
        keys = ("images", "head", "top_k", "é", "")
        return {rng.choice(keys): odd_value(rng, depth + 1) for _ in range(rng.randrange(4))}
    if depth < 4 and rng.random() < 0.2:
        return [odd_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return rng.choice(ODD_VALUES)


def changed(rng: Random, document: dict[str, object]) -> dict[str, object]:
    """A document with some of its values replaced, or with one more."""
    names = rng.sample((*document, "nobody"), rng.choice((0, 1, 1, 2)))
    return document | {name: odd_value(rng) for name in names}


def damaged_json(rng: Random, document: dict[str, object]) -> bytes:
    """The text of a document, sometimes in too many brackets or mutated."""
    body = json.dumps(document, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
    if rng.random() < 0.05:
        body = b"[" * rng.choice((100, 10_000)) + body
    return mutated(rng, body) if rng.random() < 0.3 else body


def as_json(rng: Random) -> Request:
    images = [base64.b64encode(picture(rng)).decode() for _ in range(rng.choice((1, 1, 2)))]
    if rng.random() < 0.1:
        images = [f"data:image/png;base64,{image}" for image in images]
    body = damaged_json(rng, changed(rng, {"images": images, "head": "gap", "top_k": 2}))
    return Request("/predict", headers=((b"content-type", b"application/json"),), body=body)


def as_oddity(rng: Random) -> Request:
    """A good picture with odd words in the query and in the headers."""
    names = (b"head", b"top_k", b"version", b"class", b"format", b"offset", b"nobody")
    pairs = [rng.choice(names) + b"=" + _asked(rng) for _ in range(rng.randrange(4))]
    headers = (
        b"x-request-id",
        b"content-type",
        b"accept",
        b"content-length",
        b"x-request-timeout-ms",
        b"authorization",
    )
    said = tuple((name, rng.choice(ODD_TEXT)) for name in rng.sample(headers, rng.randrange(4)))
    route = rng.choice(("/predict", "/compare", "/explain", "/shift"))
    return Request(route, b"&".join(pairs), said, rng.choice(tuple(pictures().values())))


def _asked(rng: Random) -> bytes:
    return rng.choice(
        (quote(rng.choice(ODD_TEXT)).encode(), rng.choice(ODD_TEXT), b"gap", b"1", b"red", b"8,-4")
    )


def as_head_name(rng: Random) -> Request:
    name = unquote(quote(rng.choice((*ODD_TEXT[1:], b"gap", b"gap/1", b".compiled"))))
    route = rng.choice(("/heads/{head}", "/v1/models/{head}", "/v2/models/{head}"))
    return Request(route, method="get", path=route.replace("{head}", name))
