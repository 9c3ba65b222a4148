"""Cuts a saved Keras model in two at its last feature map, along the nodes of its graph."""

from dataclasses import dataclass

import keras
import numpy as np
import openvino as ov
from numpy.typing import NDArray

from service.errors import CommandError
from service.lab.models.compile import to_openvino
from service.lab.models.cutting import Cut, check_said, settled
from service.lab.models.graph import (
    NO_FEATURE_MAP,
    has_convolution,
    has_preprocessing,
    inline,
    is_for_integers,
)
from service.lab.models.preprocessing import preprocessed
from service.lab.models.structure.ending import output_of, probabilities
from service.lab.models.structure.family import family_of
from service.lab.models.structure.head import head_of
from service.lab.models.structure.steps import steps_of
from service.store.card import Output, Preprocessing


@dataclass(frozen=True, kw_only=True)
class Split(Cut):
    """A Keras model cut in two."""

    model: keras.Model  # As it was saved.
    bare: keras.Model  # The backbone as it was saved, without the preprocessing in front of it.
    backbone: keras.Model
    head: keras.Model

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.backbone.output_shape[1:]
        return height, width, channels

    @property
    def classes(self) -> int:
        return int(self.head.output_shape[-1])

    @property
    def backbone_parameters(self) -> int:
        return int(self.backbone.count_params())

    @property
    def head_parameters(self) -> int:
        return int(self.head.count_params())

    @property
    def head_bytes(self) -> int:
        return sum(weight.numpy().nbytes for weight in self.head.weights)

    def graphs(self) -> tuple[ov.Model, ov.Model]:
        return to_openvino(self.backbone), to_openvino(self.head)

    def networks(self) -> tuple[keras.Model, keras.Model]:
        return self.backbone, self.head

    def whole(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The probabilities of the whole saved model in Keras, (n, h, w, 3) -> (n, classes)."""
        values = preprocessed(pixels.astype(np.float32), self.preprocessing)
        # A model may take and return lists or dicts of one tensor.
        whole = keras.Model(self.model.inputs[0], self.model.outputs[0])
        result: NDArray[np.float32] = keras.ops.convert_to_numpy(
            probabilities(whole(values, training=False), self.output)
        )
        return result


def split(
    model: keras.Model,
    size: tuple[int, int],
    preprocessing: Preprocessing | None,
    *,
    loss: str | None = None,
    is_from_logits: bool = False,
) -> Split:
    """Cuts `model`, at input `size` (height, width), before its pooling.

    `preprocessing` is added in front. None adds that of the family that the backbone is of, or else of
    ResNet50, unless the model has its own. `loss` and `is_from_logits` are what the file says of its
    training. Raises CommandError with one sentence on what is not supported.
    """
    flat = inline(model, size)
    check_said(preprocessing, is_for_integers=is_for_integers(flat))
    head = head_of(flat)
    output = output_of(head.activation, int(flat.outputs[0].shape[-1]), loss, is_from_logits)
    bare = keras.Model(flat.inputs[0], head.features)
    if not has_convolution(bare):
        raise CommandError(NO_FEATURE_MAP)
    is_ready = is_for_integers(flat) or has_preprocessing(bare)
    family = family_of(steps_of(bare))
    chosen = settled(preprocessing, family, is_ready=is_ready)
    return Split(
        model=model,
        bare=bare,
        backbone=_with_preprocessing(bare, size, chosen),
        head=_with_probabilities(keras.Model(head.features, flat.outputs[0]), output),
        preprocessing=chosen,
        has_own_preprocessing=is_ready,
        family=family.name if family else None,
        output=output,
        pooling=head.pooling,
        filter=tuple(head.window.pool_size) if head.window else None,
        stride=tuple(head.window.strides) if head.window else None,
        hidden_units=head.hidden_units,
    )


def _with_preprocessing(backbone: keras.Model, size: tuple[int, int], how: Preprocessing) -> keras.Model:
    """The backbone with preprocessing: uint8 RGB pixels -> float32 features."""
    pixels = keras.Input((*size, 3), dtype="uint8", name="pixels")
    values = preprocessed(keras.ops.cast(pixels, "float32"), how)
    values = keras.ops.cast(values, backbone.inputs[0].dtype)
    return keras.Model(pixels, keras.ops.cast(backbone(values), "float32"))


def _with_probabilities(head: keras.Model, output: Output) -> keras.Model:
    """The head with its output as float32 probabilities, one per label."""
    features = keras.Input(head.input_shape[1:], dtype="float32", name="features")
    return keras.Model(features, probabilities(head(features), output))
