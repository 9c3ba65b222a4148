"""The JSON messages of Open Inference Protocol v2."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, FailFast, Field, StrictBool, StrictInt

from service.api.protocols.tensors import Tensor, inputs_of, output_of
from service.api.schemas.numbers import Number
from service.serving.loading import LoadedHead

Count = Annotated[StrictInt, Field(ge=0, lt=2**63)]


class InShared(BaseModel):
    """The parameter for memory that client and server share, which is refused."""

    shared_memory_region: None = Field(default=None, description="Shared memory is not supported.")


class InputParameters(InShared):
    """The parameters of an input tensor."""

    binary_data_size: Count | None = Field(
        default=None, description="The size of the tensor's data after the JSON, in bytes."
    )


class InputTensor(BaseModel):
    """The images: `pixels` in the size of the head's input, or whole files as `image_bytes`."""

    name: Literal["pixels", "image_bytes"]
    shape: Annotated[list[Count], FailFast()]  # Reporting many wrong items takes long.
    datatype: Literal["UINT8", "BYTES"]
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = Field(
        default=None,
        description="Numbers, nested or flat, for `pixels`; base64 or data URLs for `image_bytes`.",
    )


class OutputParameters(InShared):
    """The parameters of an output tensor."""

    binary_data: StrictBool | None = Field(
        default=None,
        description="Whether the data follows the JSON; by default `binary_data_output` says so.",
    )
    classification: Count = Field(
        default=0,
        description="How many classes to return as texts `value:index:label`; 0 returns probabilities.",
    )


class RequestedOutput(BaseModel):
    """The output that the request asks for."""

    name: Literal["probabilities"]
    parameters: OutputParameters = OutputParameters()


class RequestParameters(BaseModel):
    """The parameters of a request. Others than these are accepted and ignored."""

    binary_data_output: StrictBool = Field(
        default=False, description="Whether the outputs follow the JSON in binary."
    )
    timeout: Count = Field(
        default=0, description="Microseconds to the answer; 0 leaves it to `X-Request-Timeout-Ms`."
    )


class InferenceRequest(BaseModel):
    """A request with one of the two inputs, `pixels` or `image_bytes`."""

    id: str | None = None
    parameters: RequestParameters = RequestParameters()
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[RequestedOutput] = Field(default=[], max_length=1)


class BinarySize(BaseModel):
    """The size of a tensor's data after the JSON, in bytes."""

    binary_data_size: int


class OutputTensor(BaseModel):
    """An output: its `data` row by row, or else as many bytes after the JSON as `parameters` say."""

    name: str
    shape: list[int]
    datatype: Literal["FP32", "BYTES"]
    parameters: BinarySize | None = None
    data: list[Number] | list[str] | None = None


class InferenceResponse(BaseModel):
    """The answer of /infer."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class Server(BaseModel):
    """The server, and the extensions of the protocol that it supports."""

    name: str
    version: str
    extensions: list[str] = ["binary_tensor_data", "classification"]


class Live(BaseModel):
    """The process is alive."""

    live: bool = True


class Ready(BaseModel):
    """The service, or the head that was named, is ready."""

    ready: bool = True


class Model(BaseModel):
    """The tensors of a head, and its versions."""

    name: str
    versions: list[str] = Field(description="The loaded versions, the newest first.")
    platform: str = Field(description="The engine that runs the head.")
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
