"""A saved model as the rest of the lab sees it, whatever its format: it is opened once, and cut."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import keras
import numpy as np
import openvino as ov
from numpy.typing import NDArray

from service.errors import CommandError
from service.lab.models.structure.family import Family
from service.store.card import PREPROCESSING, Format, Output, Preprocessing

NONE = PREPROCESSING["none"]


@dataclass(frozen=True, kw_only=True)
class Cut(ABC):
    """A model cut in two at its last feature map.

    `preprocessing` is what is done to pixels in front of the model as it was saved; a model that
    `has_own_preprocessing` takes them as they are. `family` is the backbones of keras.applications whose
    structure this one has, if it is known. `pooling` is one word, or several joined by `+`; `filter` and
    `stride` are those of its window, and `hidden_units` those of the dense layers before the last.
    """

    preprocessing: Preprocessing
    has_own_preprocessing: bool
    family: str | None
    output: Output
    pooling: str
    filter: tuple[int, int] | None
    stride: tuple[int, int] | None
    hidden_units: tuple[int, ...]

    @property
    @abstractmethod
    def feature_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the feature map."""

    @property
    @abstractmethod
    def classes(self) -> int:
        """The number of probabilities that the head returns."""

    @property
    @abstractmethod
    def backbone_parameters(self) -> int:
        """The number of weights up to the feature map."""

    @property
    @abstractmethod
    def head_parameters(self) -> int:
        """The number of weights after the feature map."""

    @property
    @abstractmethod
    def head_bytes(self) -> int:
        """The bytes of the head's weights."""

    @abstractmethod
    def graphs(self) -> tuple[ov.Model, ov.Model]:
        """Backbone and head in float32, for any batch size.

        They map uint8 RGB pixels (n, height, width, 3) to float32 features (n, h, w, c), and those to
        probabilities (n, classes). Raises CommandError where OpenVINO cannot convert them.
        """

    @abstractmethod
    def networks(self) -> tuple[keras.Model, keras.Model]:
        """The same for the keras engine. Raises CommandError where the source is no Keras model."""

    @abstractmethod
    def whole(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The whole model's probabilities, computed by the framework that reads the source."""


def check_size(own: tuple[int | None, int | None], wanted: tuple[int, int]) -> None:
    """Raises CommandError where a model's own input size, (height, width), is another one."""
    if any(side not in (None, asked) for side, asked in zip(own, wanted, strict=True)):
        raise CommandError(f"The model's input is fixed to {own}, not {wanted}.")


def check_said(said: Preprocessing | None, *, is_for_integers: bool) -> None:
    """Raises CommandError where preprocessing is said for a model that takes pixels as whole numbers."""
    if is_for_integers and said not in (None, NONE):
        raise CommandError("The model takes whole numbers, as pixels are; --preprocessing makes floats.")


def settled(said: Preprocessing | None, family: Family | None, *, is_ready: bool) -> Preprocessing:
    """What is done to pixels: what was said; else nothing where the model `is_ready` for them, or what
    the family of its backbone was trained on. ResNet50 stands for an unknown one.
    """
    assumed = PREPROCESSING[family.preprocessing if family else "caffe"]
    return said or (NONE if is_ready else assumed)


class OpenedSource(Protocol):
    """A source that was read."""

    @property
    def format(self) -> Format: ...

    def keep(self, folder: Path) -> None:
        """Copies its files to a version's folder, byte for byte; an unpacked archive is packed again."""

    @property
    def model(self) -> keras.Model:
        """The model in Keras of today. Raises CommandError where there is none."""

    @property
    def own_size(self) -> tuple[int | None, int | None]:
        """The (height, width) of the model's input; None for a dimension of any size."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how it was read, a sentence each."""

    @property
    def unsaid(self) -> str | None:
        """Why it is refused unless its preprocessing is said or found out; None for most."""

    def cut(self, size: tuple[int, int], preprocessing: Preprocessing | None) -> Cut:
        """Cuts the model at input `size`, with `preprocessing` in front, or the assumed one for None.

        Raises CommandError with one sentence on what is not supported.
        """
