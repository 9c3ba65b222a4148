"""Finds the images and their fields in a request's body: raw bytes, multipart, or JSON."""

import asyncio
import base64
import binascii
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Annotated, Any, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, ValidationError
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.api.schemas.fields import Fields
from service.errors import BadParameter, NoImages, NotAnImage, TooManyImages

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # or hostile bodies would fill the log


class Envelope(BaseModel):
    """A JSON body: `images` are base64 or data URLs; the rest are fields."""

    model_config = ConfigDict(extra="allow")

    images: Annotated[list[str], FailFast()]  # 400,000 wrong ones take 2 s to tell of


MAX_FIELDS = 100
LONG = 2**16  # bytes: of JSON about a millisecond, of multipart at most 8, where its parts are empty

M = TypeVar("M", bound=BaseModel)
F = TypeVar("F", bound=Fields)
P = ParamSpec("P")
R = TypeVar("R")


class _InMemory(MultiPartParser):
    """Never spools to disk: the body is in memory already, and the disk may be read-only."""

    spool_max_size = 2**62


async def parse(headers: Headers, body: bytes, max_images: int, kind: type[F]) -> tuple[list[bytes], F]:
    """The images of a body in order, and the fields of this kind beside them.

    A body that is neither multipart nor JSON is one image, whatever its type says. Raises NoImages,
    TooManyImages, BadParameter, and NotAnImage for what is not base64.
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
    """What a parser makes of so many bytes: in a thread where the event loop would notice."""
    if size < LONG:
        return parse(*args, **kwargs)
    return await asyncio.to_thread(parse, *args, **kwargs)


def _parse_multipart(headers: Headers, body: bytes, kind: type[F]) -> tuple[list[bytes], F]:
    """Starlette's parser is a coroutine, which has nothing to wait for where all is in memory."""
    return _at_once(_read_multipart(headers, body, kind))


def _at_once(coroutine: Coroutine[Any, Any, R]) -> R:
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: R = done.value
        return result
    raise AssertionError("it waits for something")


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
        for file in parser._files_to_close_on_error:  # of a body that breaks off, only these are known
            file.close()


def _texts(form: FormData) -> dict[str, object]:
    """The text fields; one that is there more than once is a list."""
    names = [name for name, value in form.multi_items() if isinstance(value, str)]
    values = {name: form.getlist(name) for name in names}
    return {name: given[0] if len(given) == 1 else given for name, given in values.items()}


def _parse_json(body: bytes, max_images: int, kind: type[F]) -> tuple[list[bytes], F]:
    envelope = validated(Envelope, body)
    if len(envelope.images) > max_images:  # before any is decoded
        raise TooManyImages(len(envelope.images), max_images)
    fields = validated(kind, envelope.model_extra or {})
    return [from_base64(index, text) for index, text in enumerate(envelope.images)], fields


def validated(kind: type[M], source: bytes | dict[str, Any]) -> M:
    """JSON or fields as a model. Raises BadParameter."""
    if len(source) > MAX_FIELDS and isinstance(source, dict):
        raise BadParameter(f"There are {len(source)} fields, and no request has so many.")
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
    """The file in base64 or a data URL. Raises NotAnImage."""
    payload = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise NotAnImage("it is not valid base64.", index) from exc
