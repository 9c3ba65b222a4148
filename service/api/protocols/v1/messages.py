"""The JSON messages of TensorFlow Serving's REST API."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from service.api.body import from_base64
from service.api.protocols.tensors import FILES, PIXELS, Tensor, inputs_of, output_of, to_pixels
from service.api.redact import fit_to_tell
from service.api.schemas.numbers import Number
from service.errors import BadParameter, NoImages, TooManyImages
from service.serving.classifier import Picture
from service.serving.heads import HeadStatus
from service.serving.loading import LoadedHead

SIGNATURE = "serving_default"
DTYPES = {"UINT8": "DT_UINT8", "BYTES": "DT_STRING", "FP32": "DT_FLOAT"}


class PredictRequest(BaseModel):
    """The images, each as `{"b64": ...}` or rows of pixels, which may stand under the input's name."""

    signature_name: Literal["", "serving_default"] = "serving_default"
    instances: list[Any] | None = Field(
        None, description="The images row by row; the answer holds `predictions`."
    )
    inputs: list[Any] | dict[str, Any] | None = Field(
        None, description="The images as a column; the answer holds `outputs`."
    )

    def pictures(self, max_images: int) -> list[Picture]:
        """Returns the images in order. Raises NoImages, TooManyImages, BadParameter, or NotAnImage."""
        if (self.instances is None) == (self.inputs is None):
            raise BadParameter("The request needs either instances or inputs, and not both.")
        rows = _unnamed(self.inputs) if self.instances is None else [*map(_unnamed, self.instances)]
        if not isinstance(rows, list):
            raise BadParameter(
                f"inputs: send a list of images, or an object that holds one as {PIXELS} or {FILES}."
            )
        if not rows:
            raise NoImages
        if len(rows) > max_images:
            raise TooManyImages(len(rows), max_images)
        return [_picture(index, row) for index, row in enumerate(rows)]


class Predictions(BaseModel):
    """The probabilities of each image in the order of the labels, as the answer to `instances`."""

    predictions: list[list[Number]]


class Outputs(BaseModel):
    """The probabilities of each image in the order of the labels, as the answer to `inputs`."""

    outputs: list[list[Number]]


class Cause(BaseModel):
    """Why a version is in its state."""

    error_code: str = Field(
        description="`OK`, or `FAILED_PRECONDITION` if the version could not be loaded."
    )
    error_message: str


class VersionStatus(BaseModel):
    """The state of one version of a head."""

    version: str
    state: str = Field(description="`AVAILABLE`, or `END` if the version could not be loaded.")
    status: Cause


class ModelStatus(BaseModel):
    """The versions that are loaded or could not be loaded, the newest first."""

    model_version_status: list[VersionStatus]


def _unnamed(value: Any) -> Any:  # noqa: ANN401 (any JSON)
    """Unwraps an object whose only key is the name of an input; returns other values unchanged."""
    match value:
        case {"pixels": inner} | {"image_bytes": inner} if len(value) == 1:
            return inner
    return value


def _picture(index: int, value: Any) -> Picture:  # noqa: ANN401 (any JSON)
    match value:
        case {"b64": str(text)} if len(value) == 1:
            return from_base64(index, text)
        case list():
            return to_pixels(value)
    raise BadParameter(f'image {index} is neither {{"b64": ...}} nor rows of pixels.')


def prediction_rows(rows: Sequence[NDArray[np.float32]], is_column: bool) -> Predictions | Outputs:
    """Builds the answer in the request's format: `outputs` for a column, else `predictions`."""
    numbers = [row.tolist() for row in rows]
    return Outputs(outputs=numbers) if is_column else Predictions(predictions=numbers)


def model_status(status: HeadStatus) -> ModelStatus:
    """The status message of a head's versions."""
    told = {
        number: ("END", "FAILED_PRECONDITION", fit_to_tell(why))
        for number, why in status.failures.items()
    }
    told |= dict.fromkeys(status.loaded, ("AVAILABLE", "OK", ""))
    versions = [
        VersionStatus(version=str(number), state=state, status=Cause(error_code=code, error_message=why))
        for number, (state, code, why) in sorted(told.items(), reverse=True)
    ]
    return ModelStatus(model_version_status=versions)


def metadata(head: LoadedHead) -> dict[str, Any]:
    """The signature of a head, in the JSON form of TensorFlow Serving's protocol buffer."""
    signature = {
        "inputs": {tensor.name: _tensor(tensor) for tensor in inputs_of(head)},
        "outputs": {(output := output_of(head)).name: _tensor(output)},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {
            "name": head.card.head,
            "signature_name": "",
            "version": str(head.card.version),
        },
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}},
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    dims = [{"size": str(size), "name": ""} for size in tensor.shape]
    return {
        "dtype": DTYPES[tensor.datatype],
        "tensor_shape": {"dim": dims, "unknown_rank": False},
        "name": tensor.name,
    }
