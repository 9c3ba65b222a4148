"""What an answer to a hostile request may be: openapi.yaml decides, and it must be well-formed."""

import json
import math
import re
import struct
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import yaml
from fuzz.in_process import Answer
from fuzz.requests import Request

CONTRACT = Path(__file__).parents[2] / "openapi.yaml"
LEAK = re.compile(rb'Traceback|site-packages|File \\?"|\.py\b|(?<![\w.:/])/(?:usr|home|root|work|tmp)/')
MAX_PROBLEM_BYTES = 30_000
JSON_SIZE = "inference-header-content-length"
BUSY = {408, 429}  # documented, and no answer to a body: nothing was busy or slow


@cache
def contract() -> dict:
    """The paths of openapi.yaml."""
    return yaml.safe_load(CONTRACT.read_text())["paths"]


def fault(request: Request, answer: Answer) -> str | None:
    """What is wrong with an answer, or None."""
    documented = contract()[request.route][request.method]["responses"].get(str(answer.status))
    media_type = answer.headers.get("content-type", "").partition(";")[0]
    if answer.status >= 500 or answer.status in BUSY or documented is None:
        return f"status {answer.status}: {answer.body[:300]!r}"
    if media_type not in documented["content"]:
        return f"media type {media_type} with status {answer.status}"
    if answer.status >= 400:
        return _fault_of_problem(answer)
    if media_type == "image/png":
        return None if answer.body.startswith(b"\x89PNG") else "no PNG"
    return _fault_of_answer(request, answer)


def _fault_of_problem(answer: Answer) -> str | None:
    problem = json.loads(answer.body)
    if not {"type", "title", "status", "detail", "error"} <= problem.keys():
        return f"members {sorted(problem)}"
    if problem["status"] != answer.status or not problem["detail"] or "\n" in problem["detail"]:
        return f"not one sentence: {problem}"
    if len(answer.body) > MAX_PROBLEM_BYTES:
        return f"a problem of {len(answer.body)} bytes"
    return f"it tells too much: {problem['detail'][:300]}" if LEAK.search(answer.body) else None


def _fault_of_answer(request: Request, answer: Answer) -> str | None:
    size = int(answer.headers.get(JSON_SIZE, len(answer.body)))
    told, behind = json.loads(answer.body[:size]), answer.body[size:]
    if request.method == "get":
        return None if told else "nothing"
    if request.route.startswith("/v1"):
        return _fault_of_numbers(list(chain.from_iterable(*told.values())))
    if not request.route.startswith("/v2"):
        return _fault_of_numbers(list(_probabilities(told)))
    [output] = told["outputs"]
    values = _values(output, behind)
    if len(values) != math.prod(output["shape"]):
        return f"{len(values)} values do not fill {output['shape']}"
    return _fault_of_numbers(values)


def _fault_of_numbers(found: list[float]) -> str | None:
    """Probabilities, wherever they are, are numbers from 0 to 1."""
    wrong = [value for value in found if not (math.isfinite(value) and -1e-6 <= value <= 1 + 1e-6)]
    return f"probabilities {wrong}" if wrong or not found else None


def _values(output: dict, behind: bytes) -> list[float]:
    """Of data or of the bytes behind the JSON, whichever there is; classes are `value:index:label`."""
    if output["datatype"] == "FP32":
        return output.get("data") or [value for (value,) in struct.iter_unpack("<f", behind)]
    texts = output.get("data") or [text.decode() for text in _elements(behind)]
    return [float(text.partition(":")[0]) for text in texts]


def _elements(behind: bytes) -> Iterator[bytes]:
    while behind:
        end = 4 + int.from_bytes(behind[:4], "little")
        yield behind[4:end]
        behind = behind[end:]


def _probabilities(told: object) -> Iterator[float]:
    if isinstance(told, dict):
        for name, value in told.items():
            if name in ("probability", "stability"):
                yield value
            else:
                yield from _probabilities(value)
    elif isinstance(told, list):
        for value in told:
            yield from _probabilities(value)
