"""The engines that run compiled networks, one file each; Protocols describe what they share."""

import importlib.util
import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from service.serving import child_process
from service.serving.explain.layers import Layer
from service.store.card import Precision

log = logging.getLogger(__name__)

EngineName = Literal["openvino", "keras"]

GPU_QUESTION = "import sys, tensorflow as tf; sys.exit(not tf.config.list_physical_devices('GPU'))"
GPU_LIMIT_S = 120

# On each import and each conversion OpenVINO starts a process that reports to Google Analytics, and
# waits for it where there is no network. It reports nothing where this package cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # Python's documented way


class Network(Protocol):
    """A compiled backbone (uint8 pixels -> features) or head (features -> probabilities)."""

    def __call__(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Returns the outputs of a batch of any size, (n, ...) -> (n, ...).

        The array is valid until the next call. Calls must not overlap; one thread makes them all.
        """


class BackboneNetwork(Network, Protocol):
    """A compiled backbone, which several heads may share."""

    def another(self) -> Network:
        """Returns a copy for another thread, whose calls may overlap with those of this one."""


class HeadNetwork(Network, Protocol):
    """A compiled head, which can also return its logits and layers."""

    def logits(self) -> NDArray[np.float32]:
        """The inputs of the softmax or sigmoid in the last call, (n, units); valid until the next."""

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers from features to logits. Raises CannotExplain if one is not piecewise linear."""


class Engine(Protocol):
    """Opens compiled networks."""

    @property
    def name(self) -> EngineName:
        """The engine's name in cards, settings and answers."""

    def computes_in(self, precision: Precision) -> Precision:
        """What a backbone of this precision computes in here: f32 instead of a bf16 that is not here."""

    def open(self, folder: Path, precision: Precision = "f32") -> BackboneNetwork:
        """Opens the backbone whose compiled files are in `folder`. Raises VersionError."""

    def open_head(self, folder: Path) -> HeadNetwork:
        """Opens the head whose compiled files are in `folder`. Raises VersionError."""


def open_engine(name: EngineName, threads: int) -> Engine:
    """The engine of that name, computing with `threads` threads on a CPU."""
    if name == "keras":
        from service.serving.engines.keras import KerasEngine

        return KerasEngine(threads)
    from service.serving.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(threads)


def choose_engine(
    wanted: Literal["auto", "openvino", "keras"], stopping: threading.Event = child_process.NEVER
) -> EngineName:
    """Resolves `auto`: keras when TensorFlow is installed and sees a GPU, else openvino."""
    if wanted != "auto":
        return wanted
    return "keras" if has_tensorflow() and _has_gpu(stopping) else "openvino"


def has_tensorflow() -> bool:
    """Whether TensorFlow is installed, found without importing it."""
    return importlib.util.find_spec("tensorflow") is not None


def _has_gpu(stopping: threading.Event) -> bool:
    """Asks TensorFlow in a child process, and only if a GPU driver's device file exists."""
    if not Path("/dev/nvidiactl").exists():
        return False
    command = [sys.executable, "-c", GPU_QUESTION]
    try:
        return child_process.run(command, GPU_LIMIT_S, stopping).status == 0
    except TimeoutError as exc:
        log.warning("TensorFlow did not answer whether it sees a GPU: %s", exc)
        return False
