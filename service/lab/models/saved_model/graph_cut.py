"""Cuts the graph of a SavedModel in two at its last feature map."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import openvino as ov
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework.graph_pb2 import GraphDef

from service.errors import CommandError
from service.lab.models.compile import converted
from service.lab.models.cutting import Cut, check_said, check_size, settled
from service.lab.models.graph import PLAIN_COLOUR
from service.lab.models.preprocessing import preprocessed
from service.lab.models.saved.loss import Loss
from service.lab.models.saved_model import feature_map as finding
from service.lab.models.saved_model.answering import scores_of
from service.lab.models.saved_model.backbone_steps import steps_of_graph
from service.lab.models.saved_model.flattening import FlatGraph, flat_graph
from service.lab.models.saved_model.meta_graph import read_loss
from service.lab.models.saved_model.signature import Signature
from service.lab.models.structure.ending import output_of, probabilities
from service.lab.models.structure.family import family_of
from service.serving.engines.openvino import OpenVinoEngine
from service.store.card import Output, Preprocessing


@dataclass(frozen=True, kw_only=True)
class GraphCut(Cut):
    """A SavedModel cut in two.

    Its parameters are the elements of the variables that the answer reads, as Keras counts them: moving
    means and variances too, though OpenVINO folds them into the convolutions.
    """

    folder: Path
    flat: FlatGraph
    features: tf.Tensor

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.features.shape[1:]
        return height, width, channels

    @property
    def classes(self) -> int:
        units = int(self.flat.scores.shape[1])
        return 2 if units == 1 else units

    @property
    def backbone_parameters(self) -> int:
        weights = self.flat.weights_between(self.flat.pixels, self.features)
        return sum(weight.size for weight in weights.values())

    @property
    def head_parameters(self) -> int:
        weights = self.flat.weights_between(self.features, self.flat.scores)
        return sum(weight.size for weight in weights.values())

    @property
    def head_bytes(self) -> int:
        weights = self.flat.weights_between(self.features, self.flat.scores)
        return sum(weight.nbytes for weight in weights.values())

    def graphs(self) -> tuple[ov.Model, ov.Model]:
        pixels, features, scores = self.flat.pixels, self.features, self.flat.scores
        source = tf.TensorSpec((None, *pixels.shape[1:]), tf.uint8)
        backbone = _part(self.flat, pixels, features, source, first=self._values_of)
        source = tf.TensorSpec((None, *self.feature_shape), tf.float32)
        head = _part(self.flat, features, scores, source, then=self._probabilities_of)
        return backbone, head

    def networks(self) -> tuple[keras.Model, keras.Model]:
        """Raises CommandError: the keras engine takes layers, and a SavedModel has none."""
        raise CommandError("A SavedModel is a graph without Keras' layers; the openvino engine runs it.")

    def whole(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The probabilities of the SavedModel in TensorFlow, (n, h, w, 3) -> (n, classes)."""
        values = np.asarray(preprocessed(pixels.astype(np.float32), self.preprocessing))
        scores = scores_of(self.folder, values.astype(self.flat.pixels.dtype.as_numpy_dtype))
        result: NDArray[np.float32] = keras.ops.convert_to_numpy(probabilities(scores, self.output))
        return result

    def _values_of(self, pixels: tf.Tensor) -> tf.Tensor:
        return preprocessed(tf.cast(pixels, tf.float32), self.preprocessing)

    def _probabilities_of(self, scores: tf.Tensor) -> tf.Tensor:
        return probabilities(scores, self.output)


def cut_graph(
    folder: Path, signature: Signature, size: tuple[int, int], preprocessing: Preprocessing | None
) -> GraphCut:
    """Cuts the signature of the SavedModel in `folder`, at input `size` (height, width).

    `preprocessing` is added in front. None adds that of the family that the backbone is of, or else of
    ResNet50, unless the model has its own. Raises CommandError with one sentence on what is not
    supported.
    """
    check_size(signature.size, size)
    check_said(preprocessing, is_for_integers=signature.dtype.is_integer)
    flat = flat_graph(signature, folder, size)
    finding.check_graph(flat)
    features = finding.feature_map(flat)
    head = [one for one in flat.between(features, flat.scores) if one in flat.computed]
    window = finding.window_of(head)
    family = family_of(steps_of_graph(flat, features))
    is_ready = signature.dtype.is_integer or _has_preprocessing(flat, features)
    return GraphCut(
        folder=folder,
        flat=flat,
        features=features,
        preprocessing=settled(preprocessing, family, is_ready=is_ready),
        has_own_preprocessing=is_ready,
        family=family.name if family else None,
        hidden_units=finding.dense_units(flat, head)[:-1],
        output=_output_of(flat, read_loss(folder)),
        pooling=finding.pooling_of(flat, head),
        filter=window and window[0],
        stride=window and window[1],
    )


def _output_of(flat: FlatGraph, loss: Loss) -> Output:
    activation, units = finding.last_activation(flat), int(flat.scores.shape[1])
    return output_of(activation, units, loss.name, loss.is_from_logits)


def _has_preprocessing(flat: FlatGraph, features: tf.Tensor) -> bool:
    """Whether the first convolution gets values other than the pixels, tried on a one-colour picture."""
    met = finding.first_convolution(flat, features).inputs[0]
    if met is flat.pixels:
        return False
    picture = np.full((1, *flat.pixels.shape[1:]), PLAIN_COLOUR, np.float32)
    source = tf.TensorSpec((None, *flat.pixels.shape[1:]), tf.float32)
    values = OpenVinoEngine(1).compile(_part(flat, flat.pixels, met, source))(picture)[0]
    middle = values[values.shape[0] // 2, values.shape[1] // 2]
    return not np.array_equal(middle.round(), PLAIN_COLOUR)


def _part(
    flat: FlatGraph,
    start: tf.Tensor,
    end: tf.Tensor,
    source: tf.TensorSpec,
    *,
    first: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
    then: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
) -> ov.Model:
    """The graph from `start` to `end`, with float32 results, for inputs like `source`.

    `first` is applied to the input, and `then` to the result. Raises CommandError if OpenVINO cannot
    convert it.
    """
    weights = flat.weights_between(start, end)
    nodes = [one.node_def for one in flat.between(start, end) if one.name not in weights]
    variables = {f"{name}:0": tf.Variable(weight, trainable=False) for name, weight in weights.items()}

    def run(batch: tf.Tensor) -> tf.Tensor:
        given = {name: variable.read_value() for name, variable in variables.items()}
        given[start.name] = tf.cast(first(batch), start.dtype)
        (result,) = tf.import_graph_def(GraphDef(node=nodes), given, [end.name])
        return tf.cast(then(result), tf.float32)

    function = tf.function(run, input_signature=[source], autograph=False)
    return converted(function.get_concrete_function())
