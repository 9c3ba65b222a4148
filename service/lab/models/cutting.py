"""A saved model as the rest of the lab sees it, whatever its format: it is opened once, and cut."""

from pathlib import Path
from typing import Protocol

import keras
import numpy as np
import openvino as ov
from numpy.typing import NDArray

from service.store.card import Format, Output, Preprocessing


class Cut(Protocol):
    """A model cut in two at its last feature map."""

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to pixels in front of the model as it was saved."""

    @property
    def has_own_preprocessing(self) -> bool:
        """Whether the model itself takes raw pixels."""

    @property
    def family(self) -> str | None:
        """The backbones of keras.applications whose structure this one has, if it is known."""

    @property
    def output(self) -> Output: ...

    @property
    def pooling(self) -> str:
        """The word for it, or several joined by `+`."""

    @property
    def filter(self) -> tuple[int, int] | None: ...

    @property
    def stride(self) -> tuple[int, int] | None: ...

    @property
    def hidden_units(self) -> tuple[int, ...]: ...

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the feature map."""

    @property
    def classes(self) -> int:
        """The number of probabilities that the head returns."""

    @property
    def backbone_parameters(self) -> int: ...

    @property
    def head_parameters(self) -> int: ...

    @property
    def head_bytes(self) -> int:
        """The bytes of the head's weights."""

    def graphs(self) -> tuple[ov.Model, ov.Model]:
        """Backbone and head in float32, for any batch size.

        They map uint8 RGB pixels (n, height, width, 3) to float32 features (n, h, w, c), and those to
        probabilities (n, classes). Raises CommandError where OpenVINO cannot convert them.
        """

    def networks(self) -> tuple[keras.Model, keras.Model]:
        """The same for the keras engine. Raises CommandError where the source is no Keras model."""

    def whole(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The whole model's probabilities, computed by the framework that reads the source."""


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

    def cut(self, size: tuple[int, int], preprocessing: Preprocessing | None) -> Cut:
        """Cuts the model at input `size`, with `preprocessing` in front, or the assumed one for None.

        Raises CommandError with one sentence on what is not supported.
        """
