"""What executes compiled networks. One file an engine; what they have in common is two Protocols."""

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

log = logging.getLogger(__name__)

EngineName = Literal["openvino", "keras"]

GPU_QUESTION = "import sys, tensorflow as tf; sys.exit(not tf.config.list_physical_devices('GPU'))"
GPU_LIMIT_S = 120

# On each import and each conversion OpenVINO starts a process that reports it to Google Analytics, and
# waits for that where there is no network. It does without where this package is not to be had.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # Python's documented way


class Network(Protocol):
    """A compiled backbone (uint8 pixels -> features) or head (features -> probabilities)."""

    def __call__(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Outputs for a batch of any size, (n, ...) -> (n, ...).

        The array is valid until the next call, and calls must not overlap: one thread runs them all.
        """


class BackboneNetwork(Network, Protocol):
    """A compiled backbone, which heads share."""

    def another(self) -> Network:
        """The same network for another thread: its calls may overlap with those of this one."""


class HeadNetwork(Network, Protocol):
    """A compiled head, which can be explained."""

    def logits(self) -> NDArray[np.float32]:
        """What the last call applied softmax or sigmoid to, (n, units); valid as long as its answer."""

    @property
    def layers(self) -> Sequence[Layer]:
        """From features to logits. Raises CannotExplain where they are not piecewise linear."""


class Engine(Protocol):
    """Opens compiled networks."""

    @property
    def name(self) -> EngineName:
        """The word that stands for it in cards, settings and answers."""

    def open(self, folder: Path) -> BackboneNetwork:
        """The backbone whose compiled files lie in `folder`. Raises VersionError."""

    def open_head(self, folder: Path) -> HeadNetwork:
        """The head whose compiled files lie in `folder`. Raises VersionError."""


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
    """`auto` resolved: keras when TensorFlow is installed and sees a GPU, else openvino."""
    if wanted != "auto":
        return wanted
    return "keras" if has_tensorflow() and _has_gpu(stopping) else "openvino"


def has_tensorflow() -> bool:
    """Whether this installation has TensorFlow, found without importing it."""
    return importlib.util.find_spec("tensorflow") is not None


def _has_gpu(stopping: threading.Event) -> bool:
    """Asks TensorFlow in a process of its own, and only where a driver has left its device file."""
    if not Path("/dev/nvidiactl").exists():
        return False
    command = [sys.executable, "-c", GPU_QUESTION]
    try:
        return child_process.run(command, GPU_LIMIT_S, stopping).status == 0
    except TimeoutError as exc:
        log.warning("TensorFlow was asked for a GPU and did not answer: %s", exc)
        return False
