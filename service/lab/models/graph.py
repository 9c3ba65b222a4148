"""Flattens a saved Keras model into one graph, and finds out from it which pixels the model takes.

`model.layers` is never used: it leaves out operations such as `preprocess_input`, and does not tell the
order inside nested models.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from service.errors import CommandError
from service.lab.models.cutting import check_size
from service.lab.models.structure.operations import nodes_of

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)

MAP_RANK = 4
PLAIN_COLOUR = (200, 120, 40)
NO_FEATURE_MAP = (
    "The model has no feature map: it holds no convolution in front of its pooling or Flatten; import "
    "one that stands on a backbone such as ResNet50."
)


def inline(model: keras.Model, size: tuple[int, int]) -> keras.Model:
    """Rebuilds the model, with its layers, as one graph without nested models.

    Raises CommandError unless it has one picture as input and one output, float32, channels_last.
    """
    graph = graph_of(model)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise CommandError(
            "The model must have one input and one output; "
            f"it has {len(graph.inputs)} and {len(graph.outputs)}: make keras.Model(input, output) of "
            "the picture and the scores to serve, and save that."
        )
    source = graph.inputs[0]
    if len(source.shape) != MAP_RANK or source.shape[-1] != 3:  # noqa: PLR2004 (red, green, blue)
        raise CommandError(_not_rgb(source.shape[1:]))
    check_size(source.shape[1:3], size)
    try:
        inputs = keras.Input((*size, 3), dtype=source.dtype)
        flat = keras.Model(inputs, _run(graph, inputs, {}))
    except ValueError as exc:
        raise CommandError(f"Keras cannot run the model on {size[0]}x{size[1]} pixels.") from exc
    _check(flat)
    return flat


def own_size(model: keras.Model) -> tuple[int | None, int | None]:
    """The (height, width) of the model's input; None for a dimension of any size."""
    shape = graph_of(model).inputs[0].shape
    return (shape[1], shape[2]) if len(shape) == MAP_RANK else (None, None)


def is_for_integers(flat: keras.Model) -> bool:
    """Whether the model takes integers, so that its input must be raw pixels."""
    return not keras.backend.is_float_dtype(flat.inputs[0].dtype)


def has_convolution(flat: keras.Model) -> bool:
    return any(isinstance(op, CONVOLUTIONS) for op in flat.operations)


def has_preprocessing(backbone: keras.Model) -> bool:
    """Whether the first convolution gets values other than the pixels, tried on a one-colour picture."""
    first = next(node for node in nodes_of(backbone) if isinstance(node.operation, CONVOLUTIONS))
    picture = np.full((1, *backbone.input_shape[1:]), PLAIN_COLOUR, np.float32)
    met = keras.Model(backbone.inputs[0], first.input_tensors[0])(picture, training=False)[0]
    middle = keras.ops.convert_to_numpy(met[met.shape[0] // 2, met.shape[1] // 2])
    return not np.array_equal(middle.round(), PLAIN_COLOUR)


def graph_of(model: keras.Model) -> Any:
    """The functional graph of a model; a Sequential model holds one inside."""
    graph = getattr(model, "_functional", None) or model
    if isinstance(graph, keras.Sequential):
        raise CommandError(
            "The model was saved before it knew its input; begin it with keras.Input and save it again."
        )
    if not hasattr(graph, "_run_through_graph"):
        raise CommandError(
            "The model is neither functional nor Sequential; a subclass has no graph to cut: build it "
            "with keras.Model(inputs, outputs), give it these weights, and save that."
        )
    return graph


def _run(graph: Any, inputs: Any, names: dict[str, Any]) -> Any:
    """Calls every operation of a graph again, and enters nested models instead of calling them.

    Names are unique only within one model: `names` maps each name in use to its operation.
    """

    def entered(op: Any) -> Callable[..., Any]:
        if isinstance(op, keras.Model):
            return lambda nested_inputs, *_, **__: _run(graph_of(op), nested_inputs, names)
        while names.setdefault(op.name, op) is not op:
            op.name += "_nested"
        return op  # type: ignore[no-any-return]  # Keras has no types

    given = [
        # Cast as Layer.__call__ does.
        tensor if tensor.dtype == own.dtype else keras.ops.cast(tensor, own.dtype)
        for tensor, own in zip(keras.tree.flatten(inputs), graph.inputs, strict=True)
    ]
    result = graph._run_through_graph(given, operation_fn=entered)
    return result[0] if isinstance(result, list) and len(result) == 1 else result


def _not_rgb(shape: tuple[int | None, ...]) -> str:
    """What to do about a model that takes no RGB pictures."""
    told = f"The model's input is {shape}; (height, width, 3) is needed"
    if len(shape) == MAP_RANK - 1 and shape[-1] == 1:
        return (
            f"{told}: for grey pictures, save keras.Model(x, "
            "model(keras.ops.image.rgb_to_grayscale(x))), where x is keras.Input((height, width, 3))."
        )
    return f"{told}: import a model of RGB pictures, channels last."


def _check(flat: keras.Model) -> None:
    for op in flat.operations:
        if getattr(op, "compute_dtype", "") in ("float16", "bfloat16"):
            raise CommandError(
                f"The model computes in {op.compute_dtype}; build it again under Keras' float32 policy, "
                "give it these weights, and save that."
            )
        if getattr(op, "data_format", None) == "channels_first":
            raise CommandError(
                f"The model holds {op.name[:60]!r} as channels_first, not channels_last; build it again "
                "with data_format='channels_last', give it these weights, and save that."
            )
