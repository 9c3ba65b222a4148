"""Encodes and decodes bodies of /infer: JSON, followed by binary tensors. Pure functions of bytes.

A tensor's bytes are in row-major order, without padding, little-endian. In BYTES tensors a four-byte
length precedes each element.
"""

import math
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.api.body import from_base64, validated
from service.api.protocols.tensors import FILES, PROBABILITIES, inputs_of, to_pixels
from service.api.protocols.v2.messages import (
    BinarySize,
    InferenceRequest,
    InferenceResponse,
    InputTensor,
    OutputParameters,
    OutputTensor,
)
from service.errors import BadParameter, NoImages, TooManyImages
from service.serving.classifier import Picture, rank
from service.serving.loading import LoadedHead

LENGTH = struct.Struct("<I")
RAW = InferenceRequest(inputs=[InputTensor(name=FILES, shape=[1], datatype="BYTES")])


def read_request(
    body: bytes, json_size: int | None, head: LoadedHead, max_images: int
) -> tuple[InferenceRequest, list[Picture]]:
    """Parses the request and its pictures.

    Without `json_size` the whole body is JSON; with 0 it is one image file. Raises BadParameter,
    NoImages, TooManyImages, or NotAnImage for invalid base64.
    """
    if not body:
        raise NoImages
    if json_size == 0:
        return RAW, [body]
    behind = len(body) if json_size is None else json_size
    if behind > len(body):
        raise BadParameter(
            f"Inference-Header-Content-Length: it is {behind}, but the body has {len(body)} bytes."
        )
    request = validated(InferenceRequest, body[:behind])
    [given] = request.inputs
    _check_declared(given, head)
    if given.shape[0] == 0:
        raise NoImages
    if given.shape[0] > max_images:
        raise TooManyImages(given.shape[0], max_images)
    binary = _binary(given, memoryview(body)[behind:])
    return request, _files(given, binary) if given.name == FILES else _pixels(given, binary)


def write_response(
    request: InferenceRequest, head: LoadedHead, probabilities: Sequence[NDArray[np.float32]]
) -> tuple[bytes, bytes]:
    """Returns the JSON of the answer, and the binary tensor data that follows it."""
    wanted = request.outputs[0].parameters if request.outputs else OutputParameters()
    is_binary = wanted.binary_data
    if is_binary is None:
        is_binary = request.parameters.binary_data_output
    values = np.stack(probabilities)
    data: list[str] | list[float]
    output = OutputTensor(name=PROBABILITIES, shape=list(values.shape), datatype="FP32")
    if wanted.classification:
        texts = [text for row in values for text in _classes(row, head, wanted.classification)]
        output.datatype, output.shape = "BYTES", [len(values), len(texts) // len(values)]
        data, binary = texts, b"".join(LENGTH.pack(len(text)) + text for text in map(str.encode, texts))
    else:
        data, binary = values.ravel().tolist(), values.astype("<f4").tobytes()
    if is_binary:
        output.parameters = BinarySize(binary_data_size=len(binary))
    else:
        output.data, binary = data, b""
    card = head.card
    answer = InferenceResponse(
        model_name=card.head, model_version=str(card.version), id=request.id, outputs=[output]
    )
    return answer.model_dump_json(exclude_none=True).encode(), binary


def _check_declared(given: InputTensor, head: LoadedHead) -> None:
    """Checks the declared shape against the head's; the batch size is free."""
    [declared] = (tensor for tensor in inputs_of(head) if tensor.name == given.name)
    is_alike = len(given.shape) == len(declared.shape) and tuple(given.shape[1:]) == declared.shape[1:]
    if given.datatype != declared.datatype or not is_alike:
        raise BadParameter(
            f"{given.name}: {given.datatype} of shape {given.shape} is not the "
            f"{declared.datatype} of shape {list(declared.shape)} of this head."
        )


def _binary(given: InputTensor, behind: memoryview) -> memoryview | None:
    """The binary data of the input tensor; None if its data is in the JSON."""
    size = given.parameters.binary_data_size
    if (size is None) == (given.data is None):
        raise BadParameter(f"{given.name}: send either data or binary_data_size, and not both.")
    if len(behind) != (size or 0):
        raise BadParameter(
            f"{given.name}: {size or 0} bytes are announced, but {len(behind)} come after the JSON."
        )
    return None if size is None else behind


def _pixels(given: InputTensor, binary: memoryview | None) -> list[Picture]:
    numbers = to_pixels(given.data or []) if binary is None else np.frombuffer(binary, np.uint8)
    is_filled = numbers.size == math.prod(given.shape)
    if not is_filled or (numbers.ndim > 1 and list(numbers.shape) != given.shape):
        raise BadParameter(f"pixels: {list(numbers.shape)} numbers do not fill {given.shape}.")
    return list(numbers.reshape(given.shape))


def _files(given: InputTensor, binary: memoryview | None) -> list[Picture]:
    files = given.shape[0]
    if binary is not None:
        return _elements(binary, files)
    texts = [text for text in given.data or [] if isinstance(text, str)]
    if len(texts) != files or len(given.data or []) != files:
        raise BadParameter(f"{FILES}: data must be {files} texts in base64, as shape says.")
    return [from_base64(index, text) for index, text in enumerate(texts)]


def _elements(binary: memoryview, count: int) -> list[Picture]:
    elements: list[Picture] = []
    end = 0
    try:
        for _ in range(count):
            (size,) = LENGTH.unpack_from(binary, end)
            end += LENGTH.size + size
            elements.append(bytes(binary[end - size : end]))
    except struct.error as exc:
        raise BadParameter(f"{FILES}: the bytes end before the last of {count} files.") from exc
    if end != len(binary):
        raise BadParameter(f"{FILES}: {count} files take {end} bytes, but {len(binary)} were sent.")
    return elements


def _classes(row: NDArray[np.float32], head: LoadedHead, count: int) -> list[str]:
    """The likeliest classes as texts `value:index:label`, in descending order of probability."""
    return [f"{row[index]!s}:{index}:{head.card.labels[index]}" for index in rank(row, count)]
