"""The order of the channels, moved from the pictures into the first weights of a backbone."""

import keras_models

# isort: split

import keras
import numpy as np
import openvino as ov
import openvino.opset13 as opset
import pytest

from service.lab.models.split import split
from service.serving.engines.openvino import OpenVinoEngine
from service.serving.engines.openvino_channels import reorder_weights
from service.store.card import PREPROCESSING

SIDE = 64


def kinds(graph):
    return {node.get_type_name() for node in graph.get_ops()}


def computed(graph, pixels):
    hints = {"INFERENCE_PRECISION_HINT": "f32"}
    return ov.Core().compile_model(graph, "CPU", hints)(pixels)[0]


@pytest.mark.parametrize("preprocessing", PREPROCESSING.values(), ids=str)
def test_a_backbone_computes_the_same_without_slicing_its_pictures(preprocessing, tmp_path):
    cut = split(
        keras_models.classifier(keras.layers.GlobalAveragePooling2D()), (SIDE, SIDE), preprocessing
    )
    pixels = keras_models.pixels(3, seed=4, side=SIDE)
    graph, _ = cut.graphs()
    expected = computed(graph, pixels)
    ov.save_model(graph, tmp_path / "network.xml", compress_to_fp16=False)
    served = OpenVinoEngine(2).open(tmp_path)(pixels)
    np.testing.assert_allclose(served, expected, atol=1e-4 * np.abs(expected).max())
    assert ("StridedSlice" in kinds(graph)) == (preprocessing.order == "bgr")
    reorder_weights(graph)
    assert "StridedSlice" not in kinds(graph)
    np.testing.assert_array_equal(computed(graph, pixels), served)


def convolved(x):
    kernel = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    return opset.convolution(x, opset.constant(kernel), [1, 1], [1, 1], [1, 1], [1, 1])


def plane(pictures, channel):
    """`pictures[..., channel]` with an axis for the channel."""
    ends = [np.array(one, np.int64) for one in ([0, channel], [0, channel + 1], [1, 1])]
    masks = {"begin_mask": [0, 0], "end_mask": [0, 0], "new_axis_mask": [0, 0]}
    masks |= {"shrink_axis_mask": [0, 1], "ellipsis_mask": [1, 0]}
    return opset.unsqueeze(opset.strided_slice(pictures, *ends, **masks), np.array([1]))


def built(make, order=(2, 1, 0)):
    """A graph that joins the channels in this order, and then what `make` makes of them."""
    pictures = opset.parameter([-1, SIDE, SIDE, 3], np.float32)
    joined = opset.concat([plane(pictures, channel) for channel in order], 1)
    return ov.Model([make(joined)], [pictures])


def per_channel(*values):
    return opset.constant(np.array(values, np.float32).reshape(1, 3, 1, 1))


def twice(x):
    return opset.add(convolved(x), opset.reduce_mean(x, np.array([1, 2, 3]), keep_dims=True))


def by_itself(x):
    return convolved(opset.multiply(x, opset.reduce_mean(x, np.array([2, 3]), keep_dims=True)))


MADE = {
    "one after the other": (
        lambda x: convolved(
            opset.multiply(opset.subtract(x, per_channel(1, 2, 3)), per_channel(4, 5, 6))
        ),
        True,
    ),
    "subtracted from": (lambda x: convolved(opset.subtract(per_channel(1, 2, 3), x)), True),
    "one value for all": (lambda x: convolved(opset.divide(x, opset.constant(np.float32(127.5)))), True),
    "used twice": (twice, False),
    "multiplied by itself": (by_itself, False),
    "values of another rank": (
        lambda x: convolved(opset.add(x, opset.constant(np.ones((3, 1, 1), np.float32)))),
        False,
    ),
    "a function between": (lambda x: convolved(opset.relu(x)), False),
}


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0), (0, 1, 2)])
@pytest.mark.parametrize("name", MADE)
def test_only_what_can_be_moved_is_moved_and_all_compute_the_same(name, order):
    make, is_moved = MADE[name]
    graph = built(make, order)
    pictures = np.random.default_rng(1).normal(size=(2, SIDE, SIDE, 3)).astype(np.float32)
    expected = computed(graph, pictures)
    reorder_weights(graph)
    assert ("StridedSlice" not in kinds(graph)) == is_moved
    np.testing.assert_allclose(computed(graph, pictures), expected, atol=1e-4)


def test_channels_that_are_not_each_there_once_are_left():
    graph = built(convolved, (0, 0, 2))
    reorder_weights(graph)
    assert "StridedSlice" in kinds(graph)
