"""The engine for CPUs. It does not need TensorFlow."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset13 as opset
from numpy.typing import NDArray

from service.errors import VersionError
from service.serving import host
from service.serving.engines import EngineName
from service.serving.engines.openvino_channels import reorder_weights
from service.serving.engines.openvino_layers import layers_of, logits_of
from service.serving.explain.layers import Layer
from service.store.card import Precision

NETWORK, WEIGHTS = "network.xml", "network.bin"
INT8_ROWS = 4  # More rows at a time cost more each: 8 took 29 ms, twice 4 took 18.


class OpenVinoNetwork:
    """One compiled graph with one infer request, and the file of its weights, if it is mapped."""

    def __init__(self, compiled: ov.CompiledModel, weights: Path | None = None) -> None:
        self._compiled = compiled
        self._weights = weights
        self._request = compiled.create_infer_request()
        self._output = compiled.output(0)

    def __call__(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        outputs = self._request.infer(
            [np.ascontiguousarray(batch)], share_inputs=True, share_outputs=True
        )
        if self._weights:
            # In its first call the engine copies the weights into an order of its own.
            host.drop_pages(self._weights)
            self._weights = None
        result: NDArray[np.float32] = outputs[self._output]
        return result

    def another(self) -> "OpenVinoNetwork":
        return OpenVinoNetwork(self._compiled, self._weights)


class OpenVinoHead(OpenVinoNetwork):
    """A head whose second output is its logits. Its graph is kept: the file is memory-mapped anyway."""

    def __init__(self, compiled: ov.CompiledModel, graph: ov.Model, weights: Path) -> None:
        super().__init__(compiled, weights)
        self._graph = graph

    def logits(self) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self._request.get_output_tensor(1).data
        return logits.reshape(len(logits), -1)

    @cached_property
    def layers(self) -> Sequence[Layer]:
        return layers_of(logits_of(self._graph))


class Int8Head(OpenVinoHead):
    """A head with int8 weights, which are multiplied by a few rows at a time."""

    def __call__(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        parts = [self._few(batch[at : at + INT8_ROWS]) for at in range(0, len(batch), INT8_ROWS)]
        probabilities, *self._others = map(np.concatenate, zip(*parts, strict=True))
        return probabilities

    def logits(self) -> NDArray[np.float32]:
        return self._others[0].reshape(len(self._others[0]), -1)

    def _few(self, batch: NDArray[np.generic]) -> list[NDArray[np.float32]]:
        """All outputs of a few rows."""
        super().__call__(batch)
        return [tensor.data.copy() for tensor in self._request.output_tensors]


class OpenVinoEngine:
    """OpenVINO on the CPU, one stream of `threads` threads; heads compute in float32."""

    name: EngineName = "openvino"

    def __init__(self, threads: int) -> None:
        self._core = ov.Core()
        self._config = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # By default what is multiplied by int8 weights is rounded to int8 too; logits move by 1e-2
            # to 0.2, and differ between processors.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        }

    @cached_property
    def _has_bf16(self) -> bool:
        """Whether the processor has bfloat16 and may use it: ONEDNN_MAX_CPU_ISA can forbid it."""
        if "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            return False
        given = opset.parameter([1, 1, 1, 1], np.float32)
        kernel = opset.constant(np.ones((1, 1, 1, 1), np.float32))
        graph = ov.Model([opset.convolution(given, kernel, [1, 1], [0, 0], [0, 0], [1, 1])], [given])
        try:
            hint = {"INFERENCE_PRECISION_HINT": "bf16"}
            self._core.compile_model(graph, "CPU", hint)(np.ones((1, 1, 1, 1), np.float32))
        except RuntimeError:
            return False
        return True

    def computes_in(self, precision: Precision) -> Precision:
        """`precision`, but f32 for bf16 where the processor computes no bfloat16."""
        return "f32" if precision == "bf16" and not self._has_bf16 else precision

    def open(self, folder: Path, precision: Precision = "f32") -> OpenVinoNetwork:
        """Reads and compiles `folder`/network.xml."""
        try:
            graph = self._core.read_model(folder / NETWORK)
            reorder_weights(graph)
            return OpenVinoNetwork(self._compiled(graph, precision), folder / WEIGHTS)
        except RuntimeError as exc:
            raise _refused(exc) from exc

    def open_head(self, folder: Path) -> OpenVinoHead:
        """Reads and compiles the same file, with logits as a second output."""
        try:
            graph = self._core.read_model(folder / NETWORK)
            if (logits := logits_of(graph)) is not None:
                graph.add_outputs(logits)
            kind = Int8Head if _has_int8_weights(graph) else OpenVinoHead
            return kind(self._compiled(graph), graph, folder / WEIGHTS)
        except RuntimeError as exc:
            raise _refused(exc) from exc

    def compile(self, graph: ov.Model, precision: Precision = "f32") -> OpenVinoNetwork:
        """Compiles a graph in memory."""
        return OpenVinoNetwork(self._compiled(graph, precision))

    def _compiled(self, graph: ov.Model, precision: Precision = "f32") -> ov.CompiledModel:
        # OpenVINO's default is bfloat16 on processors that have it, which is 1e-2 away from Keras. On
        # others it cannot be asked for. What an int8 graph does not compute in int8 is in float32.
        hint = "bf16" if self.computes_in(precision) == "bf16" else "f32"
        return self._core.compile_model(graph, "CPU", self._config | {"INFERENCE_PRECISION_HINT": hint})


def _has_int8_weights(graph: ov.Model) -> bool:
    return any(
        node.get_type_name() == "Constant" and node.get_element_type() == ov.Type.i8
        for node in graph.get_ops()
    )


def _refused(exc: RuntimeError) -> VersionError:
    return VersionError(f"OpenVINO cannot open it: {str(exc).strip().splitlines()[-1]}")
