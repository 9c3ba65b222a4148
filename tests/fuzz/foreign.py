"""Hostile requests in the protocols of other servers, a row of kinds.py each: tensors that lie."""

import base64
import json
import struct
from math import prod
from random import Random

from fuzz.mutations import mutated
from fuzz.pictures import pictures
from fuzz.requests import Request, changed, damaged_json, odd_value, picture

INFER = ("/v2/models/{head}/infer", "/v2/models/{head}/versions/{version}/infer")
PREDICT = ("/v1/models/{head}:predict", "/v1/models/{head}/versions/{version}:predict")
JSON_SIZE = b"inference-header-content-length"
SIDES = (8, 8, 64)  # the inputs of fakes and of the small store
ODD_SIZES = (-1, 0, 1, 3, 255, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64, 10**30)
ODD_PARAMETERS = (
    "shared_memory_region", "shared_memory_byte_size", "classification", "binary_data",
    "binary_data_size", "binary_data_output", "sequence_id", "priority",
)  # fmt: skip


def _to(rng: Random, routes: tuple[str, ...], body: bytes, *headers: tuple[bytes, bytes]) -> Request:
    route = rng.choice(routes)
    head, version = rng.choice(("gap", "flatten")), rng.choice("1111029")
    path = route.replace("{head}", head).replace("{version}", version)
    return Request(route, headers=headers, body=body, path=path)


def _files(rng: Random) -> list[bytes]:
    """Half of them are good: what is wrong around them would not be reached otherwise."""
    good = tuple(pictures().values())
    return [
        rng.choice(good) if rng.random() < 0.5 else picture(rng) for _ in range(rng.choice((1, 1, 2)))
    ]


def _pixels(rng: Random) -> tuple[list[int], bytes]:
    side = rng.choice(SIDES)
    shape = [rng.choice((1, 1, 2)), side, side, 3]
    return shape, rng.randbytes(prod(shape))


def _nested(values: list, shape: list[int]) -> list:
    """Numbers, row by row, as lists of lists of this shape."""
    for size in shape[:0:-1]:
        values = [values[at : at + size] for at in range(0, len(values), size)]
    return values


def _odd_shape(rng: Random, shape: list[int]) -> list:
    at = rng.randrange(len(shape))
    return rng.choice(
        (
            [*shape[:at], rng.choice(ODD_SIZES), *shape[at + 1 :]],
            [*shape, 1],
            shape[:at],
            shape[::-1],
            [rng.choice(ODD_SIZES)] * rng.choice((1, 4, 5000)),
            [8.0] * len(shape),
        )
    )


def _parameters(rng: Random) -> dict[str, object]:
    if rng.random() < 0.5:
        return {"binary_data": rng.random() < 0.5, "classification": rng.choice((0, 0, 1, 3, 2**40))}
    return {rng.choice(ODD_PARAMETERS): odd_value(rng) for _ in range(rng.randrange(3))}


def _document(rng: Random, *inputs: dict[str, object]) -> dict[str, object]:
    """A request of these inputs, whose values may be odd on every level."""
    told = [changed(rng, given) if rng.random() < 0.2 else given for given in inputs]
    for given in told:
        if rng.random() < 0.2 and isinstance(given["shape"], list):
            given["shape"] = _odd_shape(rng, given["shape"] or [1])
    document: dict[str, object] = {"id": "7", "inputs": told}
    if rng.random() < 0.5:
        document["outputs"] = [{"name": "probabilities", "parameters": _parameters(rng)}]
    if rng.random() < 0.3:
        document["parameters"] = _parameters(rng) | {"binary_data_output": rng.random() < 0.5}
    return changed(rng, document) if rng.random() < 0.2 else document


def as_v2_json(rng: Random) -> Request:
    """Files in base64, or pixels nested or flat, some of which may be no numbers."""
    if rng.random() < 0.5:
        data: list = [base64.b64encode(file).decode() for file in _files(rng)]
        given = {"name": "image_bytes", "datatype": "BYTES", "shape": [len(data)], "data": data}
    else:
        shape, numbers = _pixels(rng)
        data = list(numbers)
        if rng.random() < 0.2:
            data[rng.randrange(len(data))] = odd_value(rng)
        data = _nested(data, shape) if rng.random() < 0.5 else data
        given = {"name": "pixels", "datatype": "UINT8", "shape": shape, "data": data}
    return _to(rng, INFER, damaged_json(rng, _document(rng, given)))


def _elements(rng: Random, files: list[bytes]) -> bytes:
    """Each behind its length, which may be a lie."""
    told = [rng.choice(ODD_SIZES) & 0xFFFFFFFF if rng.random() < 0.1 else len(file) for file in files]
    return b"".join(struct.pack("<I", size) + file for size, file in zip(told, files, strict=True))


def _binary(rng: Random) -> tuple[dict[str, object], bytes]:
    """An input and the bytes behind it."""
    if rng.random() < 0.5:
        files = _files(rng)
        given: dict[str, object] = {"name": "image_bytes", "datatype": "BYTES", "shape": [len(files)]}
        behind = _elements(rng, files)
    else:
        shape, behind = _pixels(rng)
        given = {"name": "pixels", "datatype": "UINT8", "shape": shape}
    told = rng.choice((*ODD_SIZES, len(behind) - 1)) if rng.random() < 0.1 else len(behind)
    return given | {"parameters": {"binary_data_size": told}}, behind


def as_v2_binary(rng: Random) -> Request:
    """JSON of a length and tensors behind it; every length may lie, and the whole may be damaged."""
    tensors = [_binary(rng) for _ in range(2 if rng.random() < 0.1 else 1)]
    text = json.dumps(_document(rng, *(given for given, _ in tensors))).encode()
    behind = b"".join(content for _, content in tensors)
    size = str(len(text)).encode()
    if rng.random() < 0.2:
        lies = (*ODD_SIZES, len(text) - 1, len(text) + 1, len(text + behind), "x", "", "1e2", "9" * 5000)
        size = str(rng.choice(lies)).encode()
    if rng.random() < 0.2:
        behind = mutated(rng, behind)
    return _to(rng, INFER, text + behind, (JSON_SIZE, size))


def as_v2_raw(rng: Random) -> Request:
    """The whole body is one file."""
    return _to(rng, INFER, picture(rng), (JSON_SIZE, rng.choice((b"0", b"0", b"00", b"-0", b"0.0"))))


def as_v1(rng: Random) -> Request:
    """Rows or a column of files or pixels, named or not, some of which are something else."""
    if rng.random() < 0.5:
        name, images = "image_bytes", [{"b64": base64.b64encode(file).decode()} for file in _files(rng)]
    else:
        shape, numbers = _pixels(rng)
        name, images = "pixels", _nested(list(numbers), shape)
    if rng.random() < 0.2:
        images[rng.randrange(len(images))] = odd_value(rng)
    is_named = rng.random() < 0.3
    document: dict[str, object] = (
        {"instances": [{name: image} if is_named else image for image in images]}
        if rng.random() < 0.5
        else {"inputs": {name: images} if is_named else images}
    )
    if rng.random() < 0.3:
        document = changed(rng, document | {"signature_name": "serving_default"})
    return _to(rng, PREDICT, damaged_json(rng, document))
