"""The schema of `card.json`, which describes a version. No files are opened here.

Unknown fields are refused, so that a card of a newer release is never half understood.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    GetJsonSchemaHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

Decode = Literal["exact", "scaled"]
Resize = Literal["bilinear", "load_img", "image_dataset", "center_crop"]
Exif = Literal["applied", "ignored"]
Format = Literal["keras", "h5", "saved_model"]
Lower = Literal["bf16", "int8"]
Precision = Literal["f32", Lower]
HeadWeights = Literal["f32", "int8"]
Origin = Literal["imagenet", "trained", "imported", "demo"]
Pooling = Literal["gap", "gmp", "flatten", "average", "max"]

HEAD_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,62}$")

HeadName = Annotated[str, StringConstraints(pattern=HEAD_NAME.pattern)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# Of a head that forks several, in alphabetical order, such as gap+gmp.
Poolings = Annotated[
    str,
    StringConstraints(
        pattern=rf"^({'|'.join(get_args(Pooling))})(\+({'|'.join(get_args(Pooling))})){{0,4}}$"
    ),
]
PositiveFloat = Annotated[FiniteFloat, Field(gt=0)]

# What a source of each format must hold, by path in the version's folder.
MAIN_FILE: Mapping[Format, str] = MappingProxyType(
    {"keras": "model.keras", "h5": "model.h5", "saved_model": "saved_model/saved_model.pb"}
)


class CardPart(BaseModel):
    """A part of a card: immutable, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Mean = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
Std = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


NUMBERS = {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}


class Preprocessing(CardPart):
    """How RGB pixels from 0 to 255 become the numbers that a backbone takes.

    The channels are put in `order`; then each is (pixel - mean) / std, in pixel units. In JSON, one
    that has a name (PREPROCESSING) is that name.
    """

    order: Literal["rgb", "bgr"] = "rgb"
    mean: Mean = (0, 0, 0)
    std: Std = (1, 1, 1)

    @property
    def name(self) -> str | None:
        """Its name in PREPROCESSING, if it has one."""
        return next((name for name, one in PREPROCESSING.items() if one == self), None)

    def __str__(self) -> str:
        mean, std = (",".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return self.name or f"{self.order}, mean {mean}, std {std}"

    @model_validator(mode="before")
    @classmethod
    def read_name(cls, told: object) -> object:
        if isinstance(told, str):
            if told not in PREPROCESSING:
                raise ValueError(f"{told!r} is not one of {', '.join(PREPROCESSING)}")
            return dict(PREPROCESSING[told])
        return told

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """A name or the data, which the serializer does not tell."""
        fields = {
            "order": {"type": "string", "enum": ["rgb", "bgr"]},
            "mean": NUMBERS | {"description": "in pixel units, in that order"},
            "std": NUMBERS | {"description": "in pixel units, in that order"},
        }
        own = {"type": "object", "properties": fields, "additionalProperties": False}
        return {
            "title": "Preprocessing",
            "description": "What is done to pixels from 0 to 255: a name, or (pixel - mean) / std.",
            "anyOf": [{"type": "string", "enum": list(PREPROCESSING)}, own],
        }

    @model_serializer
    def write_name(self) -> str | dict[str, Any]:
        return self.name or {"order": self.order, "mean": self.mean, "std": self.std}


# ImageNet's means and deviations, as keras.applications.imagenet_utils.preprocess_input has them.
PREPROCESSING: Mapping[str, Preprocessing] = MappingProxyType(
    {
        "caffe": Preprocessing(order="bgr", mean=(103.939, 116.779, 123.68)),
        "tf": Preprocessing(mean=(127.5,) * 3, std=(127.5,) * 3),
        "torch": Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
        "unit": Preprocessing(std=(255,) * 3),
        "none": Preprocessing(),
    }
)


class Input(CardPart):
    """How the bytes of an image become the input that the backbone was trained on."""

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    exif: Exif = Field(default="applied", description="whether an EXIF orientation turns the picture")
    decode: Decode
    resize: Resize
    preprocessing: Preprocessing


class Source(CardPart):
    """The file or folder that somebody saved, kept byte for byte in the version's folder."""

    format: Format
    files: dict[str, Sha256] = Field(description="by path in the version's folder")
    bytes: int | None = Field(default=None, description="of all files; unknown on the oldest cards")

    @model_validator(mode="after")
    def check_that_something_is_kept(self) -> "Source":
        main = MAIN_FILE[self.format]
        if main not in self.files:
            raise ValueError(f"a source of format {self.format} must have the file {main}")
        return self


class Output(CardPart):
    """The activation that ends the saved model, and how it becomes one probability for each label."""

    activation: Literal["softmax", "sigmoid", "linear"]
    to_probabilities: Literal["identity", "complement", "sigmoid", "softmax"] = Field(
        description="What is done to the model's output: `complement` makes (1 - p, p) of it, and "
        "`sigmoid` the same of its sigmoid."
    )

    @property
    def is_one_unit(self) -> bool:
        """Whether one unit decides between two classes, for the second one."""
        return self.to_probabilities in ("complement", "sigmoid")


class Backbone(CardPart):
    """The part up to the last feature map; heads with equal digest and input share it."""

    digest: Sha256
    parameters: int
    feature_shape: tuple[int, int, int]


class Structure(CardPart):
    """The part after the last feature map."""

    digest: Sha256
    pooling: Poolings = Field(
        description="A head that forks has several, joined by `+` in alphabetical order."
    )
    filter: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    hidden_units: tuple[int, ...] = ()
    parameters: int
    weight_bytes: int


class Interval(CardPart):
    """A mean with its 95 % interval by Student's t; a single value has no interval."""

    mean: float
    low: float | None
    high: float | None


class SeedRun(CardPart):
    """One training from one seed, and what it scored on the test split."""

    seed: int
    epochs: int
    validation_loss: float
    accuracy: float


class Epoch(CardPart):
    """One step of the learning curve; losses are cross-entropies in nats."""

    train_loss: float
    validation_loss: float
    validation_accuracy: float


class Shift(CardPart):
    """The scores on moved test pictures; each moves in one of four directions, and its edges repeat."""

    pixels: int
    accuracy: float
    agreement: float = Field(
        description="The share of pictures whose likeliest class the move does not change."
    )


class SizePoint(CardPart):
    """The accuracy after training on fewer pictures of each class."""

    images_per_class: int
    accuracy: Interval


class Experiment(CardPart):
    """How `train` made this head, and its scores on the test split, which no choice was based on.

    Two experiments may be compared image by image where `data` is equal.
    """

    data: Sha256 = Field(description="The digest of the labels, files and splits.")
    backbone: str = Field(description="Where the weights of the backbone come from.")
    fine_tuned_stages: int = 0
    learning_rate: float
    weight_decay: float
    runs: tuple[SeedRun, ...]
    accuracy: Interval = Field(description="The accuracy over the seeds.")
    top5: float
    macro_f1: float
    log_loss: float
    calibration_error: float = Field(
        description="The expected calibration error over 15 bins of equal width."
    )
    truth: tuple[int, ...] = Field(description="The classes of the test pictures.")
    predicted: tuple[int, ...] = Field(
        description="The likeliest classes by this head, in the same order."
    )
    confusion: tuple[tuple[int, ...], ...] = Field(
        description="The confusion matrix; rows are true classes, columns predicted ones."
    )
    learning_curve: tuple[Epoch, ...]
    shifts: tuple[Shift, ...]
    sizes: tuple[SizePoint, ...] = ()
    features_seconds: float
    peak_mb: float = Field(description="The peak of resident memory of the whole command so far.")


class Training(CardPart):
    """How the head was trained here, and what it scored on images it had not seen."""

    images_train: int
    images_validation: int = 0
    images_test: int
    seed: int = Field(description="The seed of the published weights.")
    seconds: float = Field(description="The time to choose the settings and to train with all seeds.")
    accuracy: float = Field(ge=0, le=1, description="The accuracy of the published weights.")
    accuracy_by: dict[str, float] = {}
    experiment: Experiment | None = None


class Quantization(CardPart):
    """How `quantize` made this head of another, and what that cost on held-out pictures.

    What was not measured is null: bf16 may be published without pictures.
    """

    source_head: HeadName = Field(description="The float32 head that this one was made of.")
    source_version: int
    files: dict[str, Sha256] = Field(
        default={}, description="The files of int8 graphs, by path in the folder; bf16 needs none."
    )
    built_with: str
    weight_bytes: int = Field(description="The size of the backbone's weights, in bytes.")
    images_calibration: int = 0
    images_test: int = 0
    data: Sha256 | None = Field(default=None, description="The digest of the labels, files and splits.")
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    agreement: float | None = Field(
        default=None, description="The share of pictures with the same likeliest class before and after."
    )
    largest_change: float | None = Field(
        default=None, description="The largest change of a probability on the held-out pictures."
    )
    max_drop: float | None = Field(
        default=None, description="The largest fall in accuracy that was accepted, in points."
    )


class Golden(CardPart):
    """A small image (PNG, base64) and the probabilities it must get, in label order, within a tolerance.

    Keras computed them; the tolerance of a bf16 head is wider. Those of an int8 backbone are its own, on
    the machine that made it.
    """

    image: Base64Bytes
    probabilities: tuple[float, ...]
    tolerance: float = Field(1e-3, gt=0, lt=1)


class Card(CardPart):
    """One version of one head. `weight_bytes` and `parameters` are exact; times are UTC."""

    schema_version: Literal[2] = 2
    head: HeadName
    version: int = Field(gt=0)
    created: datetime
    source: Source
    input: Input
    output: Output
    labels: tuple[str, ...] = Field(min_length=2)
    backbone: Backbone
    structure: Structure
    precision: Precision = Field(default="f32", description="what the backbone computes in")
    head_weights: HeadWeights = Field(
        default="f32", description="how those of the dense layers are kept"
    )
    origin: Origin
    notes: tuple[str, ...] = ()
    training: Training | None = None
    quantization: Quantization | None = None
    golden: Golden

    @model_validator(mode="before")
    @classmethod
    def read_older(cls, told: object) -> object:
        """Reads a card of an older schema as it was meant."""
        if isinstance(told, dict) and told.get("schema_version") == 1:
            return _from_version_1(told)
        return told

    @model_validator(mode="after")
    def check_one_probability_per_label(self) -> "Card":
        if len(self.golden.probabilities) != len(self.labels):
            raise ValueError(
                f"{len(self.golden.probabilities)} golden probabilities for {len(self.labels)} labels"
            )
        return self


def _from_version_1(card: dict[str, Any]) -> dict[str, Any]:
    """A card of schema version 1, whose source was one `.keras` file and whose backbone f32 or int8."""
    if new := {"source", "precision", "head_weights"} & card.keys():
        raise ValueError(f"{min(new)} is not a field of schema version 1")
    if isinstance(card.get("input"), dict) and "exif" in card["input"]:
        raise ValueError("input.exif is not a field of schema version 1")
    older = dict(card)
    sha256, size = older.pop("model_sha256", None), older.pop("model_bytes", None)
    return older | {
        "schema_version": 2,
        "source": {"format": "keras", "files": {MAIN_FILE["keras"]: sha256}, "bytes": size},
        "precision": "int8" if older.get("quantization") else "f32",
    }
