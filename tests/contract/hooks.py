"""What openapi.yaml cannot tell schemathesis: what pictures and tensors are, which deadlines will do."""

import base64
import itertools

import schemathesis
from fuzz.pictures import pictures
from hypothesis import strategies

DEADLINE = "X-Request-Timeout-Ms"
PATIENT_MS = 10_000

files = strategies.sampled_from(sorted(data for data in pictures().values() if data[:2] != b"BM"))
schemathesis.openapi.format("binary", files)
schemathesis.openapi.format("image", files.map(lambda data: base64.b64encode(data).decode()))
schemathesis.openapi.media_type("image/*", files)


RED = base64.b64encode(pictures()["png"]).decode()
TENSORS = {  # what the schema allows seldom fits a head
    ":predict": {"instances": [{"b64": RED}]},
    "/infer": {
        "inputs": [{"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [RED]}],
    },
}
turns = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):  # noqa: ARG001 (its signature)
    """A deadline of a millisecond would be kept by refusing: with 429 or 504, as documented.

    Every second body for the routes of tensors is one that fits.
    """
    asked = str((case.headers or {}).get(DEADLINE, ""))
    if asked.isdecimal() and 0 < int(asked) < PATIENT_MS:
        case.headers[DEADLINE] = str(PATIENT_MS)
    is_positive = case.meta is not None and case.meta.generation.mode.is_positive
    for ending, tensor in TENSORS.items():
        if case.operation.path.endswith(ending) and is_positive and next(turns) % 2:
            case.body, case.media_type = tensor, "application/json"
