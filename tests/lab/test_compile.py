"""What a converted graph holds, and what converting it does not do."""

import logging
import sys

import keras
import openvino.tools.ovc.convert_impl
import pytest
from keras_models import SIDE, chained, small_backbone
from stored import empty

from service.errors import CommandError
from service.lab.models.compile import store_openvino, to_openvino
from service.lab.models.split import split

L = keras.layers


def converted(*layers: L.Layer):
    inputs = keras.Input((SIDE, SIDE, 3))
    features = small_backbone()(chained(inputs, *layers))
    model = keras.Model(inputs, chained(features, L.GlobalAveragePooling2D(), L.Dense(5)))
    return to_openvino(split(model, (SIDE, SIDE), None).backbone)


def test_openvino_reports_nothing_to_anybody():
    assert sys.modules["openvino_telemetry"] is None
    assert openvino.tools.ovc.convert_impl.tm.__name__ == "openvino.tools.ovc.telemetry_stub"


def test_a_graph_has_uint8_pixels_in_and_one_float32_map_out_for_any_batch():
    graph = converted()
    (pixels,), (features,) = graph.inputs, graph.outputs
    assert pixels.get_element_type().to_string() == "u8"
    assert features.get_element_type().to_string() == "f32"
    assert str(pixels.get_partial_shape()) == f"[?,{SIDE},{SIDE},3]"
    assert str(features.get_partial_shape()) == "[?,8,8,32]"


def test_augmentation_leaves_nothing_in_the_graph():
    plain, augmented = converted(), converted(L.RandomFlip(), L.RandomRotation(0.1), L.MixUp())
    assert len(augmented.outputs) == 1
    assert len(augmented.get_ops()) == len(plain.get_ops())


def test_a_network_that_the_store_has_is_not_written_again(tmp_path):
    store = empty(tmp_path)
    store_openvino(store, converted(), "a" * 64)
    first = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    store_openvino(store, converted(), "a" * 64)
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == first


def test_a_damaged_network_is_written_again(tmp_path):
    store = empty(tmp_path)
    store_openvino(store, converted(), "a" * 64)
    weights = store.compiled("a" * 64, "openvino") / "network.bin"
    content = weights.read_bytes()
    weights.write_bytes(content[:-9])
    store_openvino(store, converted(), "a" * 64)
    assert weights.read_bytes() == content


def test_a_conversion_that_fails_leaves_the_log_as_it_was():
    inputs = keras.Input((2, 2))
    before = logging.root.level, list(logging.root.handlers)
    with pytest.raises(CommandError, match="it has no rule for"):
        to_openvino(keras.Model(inputs, keras.ops.det(inputs)))
    assert (logging.root.level, list(logging.root.handlers)) == before
