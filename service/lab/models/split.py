"""Cuts a saved Keras model in two at its last feature map, along the nodes of its graph."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import openvino as ov
from numpy.typing import NDArray

from service.errors import CommandError
from service.lab.models.compile import to_openvino
from service.lab.models.graph import MAP_RANK, has_preprocessing, inline, is_for_integers
from service.lab.models.preprocessing import preprocessed
from service.store.card import PREPROCESSING, Output, Pooling, Preprocessing

POOLINGS: dict[type, Pooling] = {
    keras.layers.GlobalAveragePooling2D: "gap",
    keras.layers.GlobalMaxPooling2D: "gmp",
    keras.layers.Flatten: "flatten",
    keras.layers.AveragePooling2D: "average",
    keras.layers.MaxPooling2D: "max",
}
WINDOWS = (keras.layers.AveragePooling2D, keras.layers.MaxPooling2D)
IDLE = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.GaussianDropout,
    keras.layers.AlphaDropout,
    keras.layers.GaussianNoise,
)
ACTIVATIONS = (
    keras.layers.Softmax,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ELU,
)
HEAD_LAYERS = (
    *POOLINGS,
    *IDLE,
    *ACTIVATIONS,
    keras.layers.Activation,
    keras.layers.Dense,
    keras.layers.BatchNormalization,
)


@dataclass(frozen=True)
class Split:
    """A model cut in two: uint8 pixels -> float32 features, and features -> probabilities."""

    model: keras.Model  # As it was saved.
    bare: keras.Model  # The backbone as it was saved, without the preprocessing in front of it.
    backbone: keras.Model
    head: keras.Model
    preprocessing: Preprocessing
    has_own_preprocessing: bool
    output: Output
    pooling: Pooling
    filter: tuple[int, int] | None
    stride: tuple[int, int] | None
    hidden_units: tuple[int, ...]

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the feature map."""
        height, width, channels = self.backbone.output_shape[1:]
        return height, width, channels

    @property
    def classes(self) -> int:
        """The number of probabilities that the head returns."""
        return int(self.head.output_shape[-1])

    @property
    def backbone_parameters(self) -> int:
        """The number of weights up to the feature map."""
        return int(self.backbone.count_params())

    @property
    def head_parameters(self) -> int:
        """The number of weights after the feature map."""
        return int(self.head.count_params())

    @property
    def head_bytes(self) -> int:
        """The bytes of the head's weights."""
        return sum(weight.numpy().nbytes for weight in self.head.weights)

    def graphs(self) -> tuple[ov.Model, ov.Model]:
        """Backbone and head for the openvino engine. Raises CommandError."""
        return to_openvino(self.backbone), to_openvino(self.head)

    def networks(self) -> tuple[keras.Model, keras.Model]:
        """Backbone and head for the keras engine."""
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


def split(model: keras.Model, size: tuple[int, int], preprocessing: Preprocessing | None) -> Split:
    """Cuts `model`, at input `size` (height, width), before its pooling.

    `preprocessing` is added in front; None adds that of ResNet50, unless the model has its own. Raises
    CommandError with one sentence on what is not supported.
    """
    flat = inline(model, size)
    none = PREPROCESSING["none"]
    if is_for_integers(flat) and preprocessing not in (None, none):
        raise CommandError("The model takes whole numbers, as pixels are; --preprocessing makes floats.")
    is_ready = is_for_integers(flat) or has_preprocessing(flat)
    chosen = preprocessing or (none if is_ready else PREPROCESSING["caffe"])
    features, tail = _cut(flat.outputs[0])
    output = _output(tail)
    windows = [op for op in tail if isinstance(op, WINDOWS)]
    bare = keras.Model(flat.inputs[0], features)
    return Split(
        model=model,
        bare=bare,
        backbone=_with_preprocessing(bare, size, chosen),
        head=_with_probabilities(keras.Model(features, flat.outputs[0]), output),
        preprocessing=chosen,
        has_own_preprocessing=is_ready,
        output=output,
        pooling=_pooling(tail),
        filter=tuple(windows[0].pool_size) if windows else None,
        stride=tuple(windows[0].strides) if windows else None,
        hidden_units=tuple(op.units for op in tail if isinstance(op, keras.layers.Dense))[:-1],
    )


def _cut(output: Any) -> tuple[Any, list[Any]]:
    """Returns the last feature map, and the layers from its pooling to the output, all of known type."""
    chain: list[tuple[Any, Any]] = []
    tensor = output
    while isinstance(layer := _maker(tensor), HEAD_LAYERS):
        tensor = layer._inbound_nodes[tensor._keras_history.node_index].input_tensors[0]
        chain.insert(0, (tensor, layer))
    if len(tensor.shape) != MAP_RANK or isinstance(layer, keras.layers.Reshape):
        raise CommandError(
            f"The head holds {type(layer).__name__} {layer.name!r}; it may hold pooling, Flatten, "
            "Dense, Dropout, BatchNormalization and Activation, one after the other."
        )
    # Layers before the pooling and the first weights, such as the last ReLU, belong to the backbone.
    while chain and not isinstance(chain[0][1], (*POOLINGS, keras.layers.Dense)):
        chain.pop(0)
    if not any(isinstance(layer, keras.layers.Dense) for _, layer in chain):
        raise CommandError(
            "The model has no dense layer after its feature map; there is no head to serve."
        )
    if len(output.shape) != 2:  # noqa: PLR2004 (pictures, classes)
        raise CommandError(f"The model gives {output.shape[1:]} per picture; a row of scores is needed.")
    return chain[0][0], [layer for _, layer in chain]


def _maker(tensor: Any) -> Any:
    return tensor._keras_history.operation


def _pooling(tail: list[Any]) -> Pooling:
    """The name of the head's pooling; if a window comes before a Flatten, the window's name."""
    words = [POOLINGS[type(layer)] for layer in tail if type(layer) in POOLINGS]
    return words[0] if words[-1] == "flatten" else words[-1]


def _output(tail: list[Any]) -> Output:
    """Describes the last activation, and how its values become probabilities."""
    last = max(at for at, layer in enumerate(tail) if isinstance(layer, keras.layers.Dense))
    dense, ending = tail[last], map(_activation, reversed(tail[last:]))
    activation = next((name for name in ending if name != "linear"), "linear")
    if dense.units == 1 and activation == "sigmoid":
        return Output(activation="sigmoid", to_probabilities="complement")
    if dense.units == 1:
        raise CommandError(f"The model ends in one {activation} unit; one unit must be a sigmoid.")
    if activation == "sigmoid":
        raise CommandError("The model is multi-label (several sigmoids); one class per image is needed.")
    if activation == "softmax":
        return Output(activation="softmax", to_probabilities="identity")
    if activation == "linear":
        return Output(activation="linear", to_probabilities="softmax")
    raise CommandError(f"The model ends in {activation!r}; softmax, logits or one sigmoid are needed.")


def _activation(layer: Any) -> str:
    """The name of the activation of a layer; `linear` for layers without one."""
    if isinstance(layer, ACTIVATIONS):
        return type(layer).__name__.lower()
    function = getattr(layer, "activation", None) or keras.activations.linear
    # An activation may be a layer instead of a function: Dense(5, activation=Softmax()).
    return getattr(function, "__name__", type(function).__name__.lower())


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


def probabilities(result: Any, output: Output) -> Any:
    """A model's output (n, units) as float32 probabilities (n, classes)."""
    result = keras.ops.cast(result, "float32")
    match output.to_probabilities:
        case "softmax":
            return keras.ops.softmax(result)
        case "complement":
            return keras.ops.concatenate([1 - result, result], axis=-1)
        case "identity":
            return result
