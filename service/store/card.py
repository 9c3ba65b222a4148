"""The schema of `card.json`, which describes a version. No files are opened here.

Unknown fields are refused, so that a card of a newer release is never half understood.
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


class CardPart(BaseModel):
    """A part of a card: immutable, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Input(CardPart):
    """How the bytes of an image become the input that the backbone was trained on."""

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    decode: Decode
    resize: Resize
    preprocessing: Preprocessing


class Output(CardPart):
    """The activation that ends the saved model, and how it becomes one probability for each label."""

    activation: Literal["softmax", "sigmoid", "linear"]
    to_probabilities: Literal["identity", "complement", "softmax"]


class Backbone(CardPart):
    """The part up to the last feature map; heads with equal digest and input share it."""

    digest: Sha256
    parameters: int
    feature_shape: tuple[int, int, int]


class Structure(CardPart):
    """The part after the last feature map."""

    digest: Sha256
    pooling: Pooling
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
    """How `quantize` made the int8 backbone of this head, and its cost on held-out pictures."""

    source_head: HeadName = Field(
        description="The float32 head that has the same layers after the backbone."
    )
    source_version: int
    files: dict[str, Sha256] = Field(description="The files of the int8 graph beside the card.")
    built_with: str
    weight_bytes: int = Field(description="The size of the int8 backbone's weights, in bytes.")
    images_calibration: int
    images_test: int
    data: Sha256 = Field(description="The digest of the labels, files and splits.")
    accuracy_before: float
    accuracy_after: float
    agreement: float = Field(
        description="The share of pictures with the same likeliest class before and after."
    )
    max_drop: float = Field(description="The largest fall in accuracy that was accepted, in points.")


class Golden(CardPart):
    """A small image (PNG, base64) and the probabilities it must get, in label order, within a tolerance.

    Keras computed them. Those of an int8 backbone are its own, on the machine that made it.
    """

    image: Base64Bytes
    probabilities: tuple[float, ...]
    tolerance: float = Field(1e-3, gt=0, lt=1)


class Card(CardPart):
    """One version of one head. `weight_bytes` and `parameters` are exact; times are UTC."""

    schema_version: Literal[1] = 1
    head: HeadName
    version: int = Field(gt=0)
    created: datetime
    model_sha256: Sha256
    model_bytes: int | None = None
    input: Input
    output: Output
    labels: tuple[str, ...] = Field(min_length=2)
    backbone: Backbone
    structure: Structure
    origin: Origin
    notes: tuple[str, ...] = ()
    training: Training | None = None
    quantization: Quantization | None = None
    golden: Golden

    @model_validator(mode="after")
    def check_one_probability_per_label(self) -> "Card":
        if len(self.golden.probabilities) != len(self.labels):
            raise ValueError(
                f"{len(self.golden.probabilities)} golden probabilities for {len(self.labels)} labels"
            )
        return self
