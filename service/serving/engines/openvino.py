"""The CPU runtime. Needs no TensorFlow."""

from pathlib import Path

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from service.errors import VersionError
from service.serving.engines import EngineName

NETWORK = "network.xml"


class OpenVinoNetwork:
    """One compiled graph with one infer request."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._request = compiled.create_infer_request()
        self._output = compiled.output(0)

    def __call__(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        outputs = self._request.infer(
            [np.ascontiguousarray(batch)], share_inputs=True, share_outputs=True
        )
        result: NDArray[np.float32] = outputs[self._output]
        return result


class OpenVinoEngine:
    """OpenVINO on the CPU, float32, one stream of `threads` threads."""

    name: EngineName = "openvino"

    def __init__(self, threads: int) -> None:
        self._core = ov.Core()
        self._config = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # the default is bfloat16 on processors that have it, which is 1e-2 away from Keras
            "INFERENCE_PRECISION_HINT": "f32",
        }

    def open(self, folder: Path) -> OpenVinoNetwork:
        """Reads and compiles `folder`/network.xml."""
        try:
            return self.compile(self._core.read_model(folder / NETWORK))
        except RuntimeError as exc:
            raise VersionError(f"OpenVINO cannot open it: {str(exc).strip().splitlines()[-1]}") from exc

    def compile(self, graph: ov.Model) -> OpenVinoNetwork:
        """The network of a graph in memory."""
        return OpenVinoNetwork(self._core.compile_model(graph, "CPU", self._config))
