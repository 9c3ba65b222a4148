"""Reads a request's body with back-pressure from its permit, and parses its images and fields."""

import asyncio
import base64
import binascii
import logging
import time
import zlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, ValidationError
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.api.schemas.fields import Fields
from service.errors import (
    BadParameter,
    BodyTooLarge,
    BodyTooSlow,
    ClientGone,
    NoImages,
    NotAnImage,
    TooManyImages,
)
from service.serving.capacity import Capacity, Permit

WINDOW_S = 5.0
SLOW_BYTES_PER_S = 16 * 2**10
LOOK_S = 1.0


@dataclass(frozen=True)
class Limits:
    """What one request may ask of the service; the settings of the same names describe each limit."""

    max_body_bytes: int
    body_timeout_s: float
    request_timeout_s: float
    max_images_per_request: int


async def read_body(request: Request, permit: Permit, limits: Limits) -> bytes:
    """Reads the whole body and decompresses it. The request's deadline counts from the last byte.

    Raises BodyTooLarge as soon as the size is known, BodyTooSlow, TooBusy, ClientGone, or what
    `decompress` raises.
    """
    body = await _receive(request, permit, limits)
    permit.begin()
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return body
    await permit.charge(largest(len(body), limits.max_body_bytes))
    content = await asyncio.to_thread(decompress, body, encoding, limits.max_body_bytes)
    permit.keep(len(content))
    return content


async def _receive(request: Request, permit: Permit, limits: Limits) -> bytes:
    body = bytearray()  # A list of small chunks would take far more memory than their bytes.
    more = True
    try:
        async with asyncio.timeout(limits.body_timeout_s) as timeout:
            with _Arrival(permit.capacity, timeout) as arrival:
                while more:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    chunk = message.get("body", b"")
                    body += chunk
                    if len(body) > limits.max_body_bytes:
                        raise BodyTooLarge(limits.max_body_bytes)
                    more = message.get("more_body", False)
                    arrival.add(len(chunk))
                    if not await permit.charge(len(chunk)):
                        arrival.resume()
    except TimeoutError as exc:
        raise BodyTooSlow(
            arrival.reason or f"it did not arrive within {limits.body_timeout_s:g} s."
        ) from exc
    return bytes(body)


class _Arrival:
    """Ends a slow body while the bytes in flight are at their bound, because others need the memory.

    Below the bound a body may pause for as long as it likes, as those of phones do. This is a context
    manager, which checks the speed every LOOK_S.
    """

    def __init__(self, capacity: Capacity, timeout: asyncio.Timeout) -> None:
        self.reason = ""
        self._capacity = capacity
        self._timeout = timeout
        self._recent: deque[tuple[float, int]] = deque()

    def __enter__(self) -> "_Arrival":
        self.resume()
        self._timer = asyncio.get_running_loop().call_later(WINDOW_S, self._look)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def add(self, size: int) -> None:
        """Counts `size` bytes that have arrived."""
        self._recent.append((time.monotonic(), size))

    def resume(self) -> None:
        """Starts to count the client's speed again, after the service itself held up the body."""
        self._since = time.monotonic()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if self._capacity.is_full() and self._is_slow():
            self.reason = "it came at less than 16 KiB a second, and others wait for room."
            self._timeout.reschedule(loop.time())
        else:
            self._timer = loop.call_later(LOOK_S, self._look)

    def _is_slow(self) -> bool:
        begin = time.monotonic() - WINDOW_S
        while self._recent and self._recent[0][0] < begin:
            self._recent.popleft()
        return (
            self._since <= begin and sum(size for _, size in self._recent) < WINDOW_S * SLOW_BYTES_PER_S
        )


SMALL = 4 * 2**20  # Parsing 4 MiB of JSON takes less than a second, whatever it holds.
RATIO = 4  # Pictures hardly compress, so honest bodies do not grow more.
WINDOWS = {"gzip": 31, "deflate": 15}  # The wbits argument of zlib selects the container format.


def largest(size: int, max_bytes: int) -> int:
    """The most bytes that a compressed body of `size` bytes may decompress to."""
    return min(max_bytes, max(SMALL, RATIO * size))


def decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Decompresses a body of this Content-Encoding, and stops one byte after the limit.

    Content beyond SMALL may be at most RATIO times as large as the body, against decompression bombs.

    Raises BodyTooLarge, or BadParameter for other encodings and unless the body is one whole stream.
    """
    if encoding not in WINDOWS:
        raise BadParameter(f"Content-Encoding: {encoding!r} is neither gzip nor deflate.")
    max_bytes = largest(len(body), max_bytes)
    stream = zlib.decompressobj(WINDOWS[encoding])
    try:
        content = stream.decompress(body, max_bytes + 1)
    except zlib.error as exc:
        raise BadParameter(f"The body is not valid {encoding}.") from exc
    if len(content) > max_bytes:
        raise BodyTooLarge(max_bytes)
    if stream.unused_data or not stream.eof:
        raise BadParameter(f"The body must be one whole {encoding} stream and nothing more.")
    return content


# Hostile bodies would fill the log with this library's warnings.
logging.getLogger("python_multipart").setLevel(logging.ERROR)


class Envelope(BaseModel):
    """A JSON body: `images` are base64 or data URLs; the rest are fields."""

    model_config = ConfigDict(extra="allow")

    images: Annotated[list[str], FailFast()]  # Reporting 400,000 wrong items takes 2 s.


MAX_FIELDS = 100
LONG = 2**16  # Parsing 64 KiB of JSON takes about 1 ms, of multipart at most 8 ms.

M = TypeVar("M", bound=BaseModel)
F = TypeVar("F", bound=Fields)
P = ParamSpec("P")
R = TypeVar("R")


class _InMemory(MultiPartParser):
    """A parser that never spools a part to disk, which may be read-only; the body is in memory."""

    spool_max_size = 2**62


async def parse_images(
    headers: Headers, body: bytes, max_images: int, kind: type[F]
) -> tuple[list[bytes], F]:
    """Parses a body into its images, in order, and its other fields as a `kind`.

    A body that is neither multipart nor JSON is one image, whatever its Content-Type. Raises NoImages,
    TooManyImages, BadParameter, or NotAnImage for invalid base64.
    """
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        images, fields = await parsed(len(body), _parse_multipart, headers, body, kind)
    elif media_type == "application/json":
        images, fields = await parsed(len(body), _parse_json, body, max_images, kind)
    else:
        images, fields = ([body] if body else []), kind()
    if not images:
        raise NoImages
    if len(images) > max_images:
        raise TooManyImages(len(images), max_images)
    return images, fields


async def parsed(size: int, parse: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls `parse` on the event loop, or in a thread if the body has LONG bytes or more."""
    if size < LONG:
        return parse(*args, **kwargs)
    return await asyncio.to_thread(parse, *args, **kwargs)


def _parse_multipart(headers: Headers, body: bytes, kind: type[F]) -> tuple[list[bytes], F]:
    """Runs Starlette's parser, a coroutine that never has to wait: the whole body is in memory."""
    return _at_once(_read_multipart(headers, body, kind))


def _at_once(coroutine: Coroutine[Any, Any, R]) -> R:
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: R = done.value
        return result
    raise AssertionError("the coroutine had to wait")


async def _read_multipart(headers: Headers, body: bytes, kind: type[F]) -> tuple[list[bytes], F]:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = _InMemory(headers, whole())
    try:
        form = await parser.parse()
        files = [part for part in form.getlist("file") if isinstance(part, UploadFile)]
        return [await file.read() for file in files], validated(kind, _texts(form))
    except (MultiPartException, KeyError) as exc:
        raise BadParameter(f"The multipart body cannot be read: {exc}.") from exc
    finally:
        # The parser names its open files nowhere else when a body breaks off.
        for file in parser._files_to_close_on_error:
            file.close()


def _texts(form: FormData) -> dict[str, object]:
    """The text fields by name; a field that occurs more than once becomes a list."""
    names = [name for name, value in form.multi_items() if isinstance(value, str)]
    values = {name: form.getlist(name) for name in names}
    return {name: given[0] if len(given) == 1 else given for name, given in values.items()}


def _parse_json(body: bytes, max_images: int, kind: type[F]) -> tuple[list[bytes], F]:
    envelope = validated(Envelope, body)
    if len(envelope.images) > max_images:  # Count before decoding any.
        raise TooManyImages(len(envelope.images), max_images)
    fields = validated(kind, envelope.model_extra or {})
    return [from_base64(index, text) for index, text in enumerate(envelope.images)], fields


def validated(kind: type[M], source: bytes | dict[str, Any]) -> M:
    """Validates JSON or a dict of fields as a model. Raises BadParameter."""
    if len(source) > MAX_FIELDS and isinstance(source, dict):
        raise BadParameter(f"There are {len(source)} fields; at most {MAX_FIELDS} are allowed.")
    try:
        return (
            kind.model_validate_json(source)
            if isinstance(source, bytes)
            else kind.model_validate(source)
        )
    except ValidationError as exc:
        told = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in exc.errors()[:3]
        )
        raise BadParameter(f"{told}.") from exc


def from_base64(index: int, text: str) -> bytes:
    """Decodes the image file that `text` holds in base64 or as a data URL. Raises NotAnImage."""
    payload = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise NotAnImage("it is not valid base64.", index) from exc
