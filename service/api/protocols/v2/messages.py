"""The JSON messages of Open Inference Protocol v2."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, FailFast, Field, StrictBool, StrictInt

from service.api.protocols.tensors import Tensor, inputs_of, output_of
from service.api.schemas.numbers import Number
from service.serving.loading import LoadedHead

Count = Annotated[StrictInt, Field(ge=0, lt=2**63)]


class InShared(BaseModel):
    """What a tensor of either direction may not be: in memory that client and server share."""

    shared_memory_region: None = Field(default=None, description="not served")


class InputParameters(InShared):
    binary_data_size: Count | None = Field(
        default=None, description="bytes of this tensor behind the JSON"
    )


class InputTensor(BaseModel):
    """Images: `pixels` as the head takes them, or whole files as `image_bytes`."""

    name: Literal["pixels", "image_bytes"]
    shape: Annotated[list[Count], FailFast()]  # FailFast: reporting many wrong items takes long.
    datatype: Literal["UINT8", "BYTES"]
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = Field(
        default=None, description="pixels: numbers, nested or flat; image_bytes: base64 or data URLs"
    )


class OutputParameters(InShared):
    binary_data: StrictBool | None = Field(
        default=None, description="whether it comes behind the JSON; default: as the request says"
    )
    classification: Count = Field(
        default=0,
        description="so many classes, likeliest first, as texts `value:index:label`; 0: probabilities",
    )


class RequestedOutput(BaseModel):
    name: Literal["probabilities"]
    parameters: OutputParameters = OutputParameters()


class RequestParameters(BaseModel):
    """Others are accepted, and mean nothing here."""

    binary_data_output: StrictBool = False
    timeout: Count = Field(default=0, description="microseconds; 0: as `X-Request-Timeout-Ms` says")


class InferenceRequest(BaseModel):
    """One input of the two."""

    id: str | None = None
    parameters: RequestParameters = RequestParameters()
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[RequestedOutput] = Field(default=[], max_length=1)


class BinarySize(BaseModel):
    binary_data_size: int


class OutputTensor(BaseModel):
    """`data`, row by row, or else as many bytes behind the JSON."""

    name: str
    shape: list[int]
    datatype: Literal["FP32", "BYTES"]
    parameters: BinarySize | None = None
    data: list[Number] | list[str] | None = None


class InferenceResponse(BaseModel):
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class Server(BaseModel):
    name: str
    version: str
    extensions: list[str] = ["binary_tensor_data", "classification"]


class Live(BaseModel):
    live: bool = True


class Ready(BaseModel):
    ready: bool = True


class Model(BaseModel):
    """What a head is."""

    name: str
    versions: list[str] = Field(description="that are loaded, newest first")
    platform: str = Field(description="the engine")
    inputs: list[Tensor]
    outputs: list[Tensor]


def model(head: LoadedHead, loaded: list[int], engine: str) -> Model:
    """The metadata of a head; `loaded` are its loaded versions."""
    return Model(
        name=head.card.head,
        versions=[str(version) for version in sorted(loaded, reverse=True)],
        platform=engine,
        inputs=list(inputs_of(head)),
        outputs=[output_of(head)],
    )
