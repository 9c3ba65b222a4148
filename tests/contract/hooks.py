"""What schemathesis cannot read from openapi.yaml: what a picture is, and which deadlines leave time."""

import base64

import schemathesis
from fuzz.pictures import pictures
from hypothesis import strategies

DEADLINE = "X-Request-Timeout-Ms"
PATIENT_MS = 10_000

files = strategies.sampled_from(sorted(data for data in pictures().values() if data[:2] != b"BM"))
schemathesis.openapi.format("binary", files)
schemathesis.openapi.format("image", files.map(lambda data: base64.b64encode(data).decode()))
schemathesis.openapi.media_type("image/*", files)


@schemathesis.hook
def before_call(context, case, kwargs):  # noqa: ARG001 (its signature)
    """A deadline of a millisecond would be kept by refusing: with 429 or 504, as documented."""
    asked = str((case.headers or {}).get(DEADLINE, ""))
    if asked.isdecimal() and 0 < int(asked) < PATIENT_MS:
        case.headers[DEADLINE] = str(PATIENT_MS)
