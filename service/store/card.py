"""What a version is: the schema of `card.json`. No files are opened here.

Unknown fields are refused, so that a card written by a newer release is never half understood.
"""

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, StringConstraints, model_validator

Decode = Literal["exact", "scaled"]
Resize = Literal["bilinear", "load_img", "image_dataset", "center_crop"]
Preprocessing = Literal["caffe", "tf", "torch", "none"]
Origin = Literal["imagenet", "trained", "imported", "demo"]
Pooling = Literal["gap", "gmp", "flatten", "average", "max"]

HEAD_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,62}$")

HeadName = Annotated[str, StringConstraints(pattern=HEAD_NAME.pattern)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Part(BaseModel):
    """A part of a card: frozen, and strict about its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Input(Part):
    """How image bytes become what the backbone was trained on."""

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    decode: Decode
    resize: Resize
    preprocessing: Preprocessing


class Output(Part):
    """What the saved model ends in, and how that becomes one probability per label."""

    activation: Literal["softmax", "sigmoid", "linear"]
    to_probabilities: Literal["identity", "complement", "softmax"]


class Backbone(Part):
    """The part up to the last feature map; heads with equal digest and input share it."""

    digest: Sha256
    parameters: int
    feature_shape: tuple[int, int, int]


class Structure(Part):
    """The part after the last feature map."""

    digest: Sha256
    pooling: Pooling
    filter: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    hidden_units: tuple[int, ...] = ()
    parameters: int
    weight_bytes: int


class Training(Part):
    """How the head was trained here, and what it scored on images it had not seen."""

    images_train: int
    images_test: int
    seed: int
    seconds: float
    accuracy: float = Field(ge=0, le=1)
    accuracy_by: dict[str, float] = {}


class Golden(Part):
    """A small image (PNG, base64) and the probabilities Keras gave for it, in label order."""

    image: Base64Bytes
    probabilities: tuple[float, ...]


class Card(Part):
    """One version of one head. `weight_bytes` and `parameters` are exact; times are UTC."""

    schema_version: Literal[1] = 1
    head: HeadName
    version: int = Field(gt=0)
    created: datetime
    model_sha256: Sha256
    input: Input
    output: Output
    labels: tuple[str, ...] = Field(min_length=2)
    backbone: Backbone
    structure: Structure
    origin: Origin
    notes: tuple[str, ...] = ()
    training: Training | None = None
    golden: Golden

    @model_validator(mode="after")
    def check_one_probability_per_label(self) -> "Card":
        if len(self.golden.probabilities) != len(self.labels):
            raise ValueError(
                f"{len(self.golden.probabilities)} golden probabilities for {len(self.labels)} labels"
            )
        return self
