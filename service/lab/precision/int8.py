"""Quantizes backbones, and the weights of heads, to int8 by NNCF. Only this module imports NNCF."""

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import nncf
import numpy as np
import openvino as ov
from numpy.typing import NDArray

from service.console import track

BUILT_WITH = f"nncf {nncf.__version__}"


@dataclass(frozen=True)
class Calibration:
    """The calibration pictures with a progress bar. NNCF reads their number, and may iterate twice."""

    pictures: Sequence[NDArray[np.uint8]]

    def __len__(self) -> int:
        return len(self.pictures)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return track(self.pictures, len(self), "Calibrating int8")


def to_int8(source: ov.Model, pictures: Sequence[NDArray[np.uint8]]) -> ov.Model:
    """Quantizes a graph's convolutions to int8, calibrated on pictures (1, height, width, 3)."""
    # Weights of 8 bits overflow on a CPU without VNNI: features were 29 % of their spread away from
    # float32's there, and 10 % with VNNI. With 7 bits it is 10 % on both, and bit for bit the same.
    seven_bits = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
    with _silent():
        return nncf.quantize(
            source,
            nncf.Dataset(Calibration(pictures)),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(pictures),
            advanced_parameters=seven_bits,
        )


def with_int8_weights(head: ov.Model) -> ov.Model:
    """Stores the weights of a head's layers in int8, with a scale for each output; it needs no pictures.

    The layers go on computing in float32.
    """
    with _silent():
        return nncf.compress_weights(head, mode=nncf.CompressWeightsMode.INT8_SYM)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Hides NNCF's progress bars and remarks; errors are raised."""
    nncf.set_log_level(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def constant_bytes(graph: ov.Model) -> int:
    """The bytes of all constants: int8 weights, and biases and scales in float32."""
    constants = (node for node in graph.get_ops() if node.get_type_name() == "Constant")
    return sum(int(node.data.nbytes) for node in constants)
