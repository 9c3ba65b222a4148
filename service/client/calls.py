"""The calls to the service. Each function is written once, and becomes a method of both clients."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from service.api.schemas.inventory import HeadList
from service.api.schemas.results import Compared, Explained, Predicted, Shifted
from service.benchmark.report import Progress, Report

T = TypeVar("T")

Image = bytes | str | os.PathLike[str]  # The bytes of a file, or its path.
Value = str | int | None
OnProgress = Callable[[Progress], None]

JSON = "application/json"
EVENTS = "text/event-stream"
PNG = "image/png"
MORE_S = 30.0  # A benchmark may take this much longer than the seconds it is given.


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and how its answer is parsed. `timeout_s` None means the client's timeout."""

    method: str
    path: str
    read: Callable[[bytes], T]
    query: Sequence[tuple[str, Value]] = ()
    images: Sequence[Image] = ()
    json: Mapping[str, object] | None = None
    accept: str = JSON
    timeout_s: float | None = None
    on_progress: OnProgress = lambda _: None


def predict(
    *images: Image, head: str | None = None, top_k: int | None = None, timeout_s: float | None = None
) -> Call[Predicted]:
    """Classifies each image with one head; None means the server's default head.

    Like all calls it raises a subclass of CallFailed, or OSError for a file that cannot be read.
    """
    query = [("head", head), ("top_k", top_k)]
    return Call("POST", "/predict", Predicted.model_validate_json, query, images, timeout_s=timeout_s)


def compare(
    *images: Image,
    heads: Sequence[str] | None = None,
    top_k: int | None = None,
    timeout_s: float | None = None,
) -> Call[Compared]:
    """Classifies each image with several heads; None means all that serve."""
    query = [("heads", None if heads is None else ",".join(heads)), ("top_k", top_k)]
    return Call("POST", "/compare", Compared.model_validate_json, query, images, timeout_s=timeout_s)


def explain(
    *images: Image,
    head: str | None = None,
    class_: str | int | None = None,
    timeout_s: float | None = None,
) -> Call[Explained]:
    """Returns the evidence for a class (label or index) in each image; None means the likeliest."""
    query = [("head", head), ("class", class_)]
    return Call("POST", "/explain", Explained.model_validate_json, query, images, timeout_s=timeout_s)


def explain_png(
    image: Image,
    *,
    head: str | None = None,
    class_: str | int | None = None,
    timeout_s: float | None = None,
) -> Call[bytes]:
    """Draws the evidence in one image as a PNG: the picture under the map, with a legend."""
    query = [("head", head), ("class", class_), ("format", "png")]
    return Call("POST", "/explain", bytes, query, [image], accept=PNG, timeout_s=timeout_s)


def shift(
    image: Image,
    *,
    heads: Sequence[str] = (),
    offsets: Sequence[tuple[int, int]] = (),
    timeout_s: float | None = None,
) -> Call[Shifted]:
    """Returns each head's answers to the picture moved by (right, down) pixels of its input.

    Without heads all that serve answer; without offsets the server takes its own 25.
    """
    moves = [("offset", f"{right},{down}") for right, down in offsets]
    query = [*(("head", head) for head in heads), *moves]
    return Call("POST", "/shift", Shifted.model_validate_json, query, [image], timeout_s=timeout_s)


def heads(*, timeout_s: float | None = None) -> Call[HeadList]:
    """Lists the heads of the store: what serves, and what failed to load and why."""
    return Call("GET", "/heads", HeadList.model_validate_json, timeout_s=timeout_s)


def benchmark(*, timeout_s: float | None = None) -> Call[Report]:
    """Returns the last report of the server's host. Raises Refused with status 404 without one."""
    return Call("GET", "/benchmark", Report.model_validate_json, timeout_s=timeout_s)


def measure(
    *,
    heads: Sequence[str] | None = None,
    engines: Sequence[str] | None = None,
    batch_sizes: Sequence[int] | None = None,
    seconds: float = 20,
    on_progress: OnProgress = lambda _: None,
    timeout_s: float | None = None,
) -> Call[Report]:
    """Runs a benchmark, and calls `on_progress` with each step. A closed connection ends the run.

    The server's admin key is needed if it has one. The default deadline is 30 s longer than `seconds`.
    """
    asked = {"heads": heads, "engines": engines, "batch_sizes": batch_sizes, "seconds": seconds}
    return Call(
        "POST",
        "/benchmark",
        Report.model_validate_json,
        json={name: value for name, value in asked.items() if value is not None},
        accept=EVENTS,
        timeout_s=seconds + MORE_S if timeout_s is None else timeout_s,
        on_progress=on_progress,
    )


def content(image: Image) -> bytes:
    """The bytes of an image file. Raises OSError that names the file, even if reading fails midway."""
    if isinstance(image, bytes):
        return image
    try:
        return Path(image).read_bytes()
    except OSError as exc:
        exc.filename = os.fspath(image)
        raise
