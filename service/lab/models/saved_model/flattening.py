"""Restores the variables of a signature, and rebuilds its graph without function calls."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TypeAlias

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.node_def_pb2 import NodeDef

from service.errors import CommandError
from service.lab.models.saved_model.allowed import CALLS
from service.lab.models.saved_model.folder import variables_of
from service.lab.models.saved_model.signature import Signature, called_by, source_of

OF_SHAPE = ("OnesLike", "Rank", "Shape", "Size", "ZerosLike")

Value: TypeAlias = tf.Tensor | str  # A string is the name of a variable.


@dataclass(frozen=True)
class FlatGraph:
    """A graph of operations alone, from `pixels` to `scores`; its weights are placeholders."""

    graph: tf.Graph
    pixels: tf.Tensor
    scores: tf.Tensor
    weights: Mapping[str, NDArray[np.generic]]  # By the name of their placeholder.

    @cached_property
    def computed(self) -> Set[tf.Operation]:
        """The operations whose values depend on the pixels, and not only on their shape."""
        found = {self.pixels.op}
        for operation in self.graph.get_operations():
            if operation.type not in OF_SHAPE and any(one.op in found for one in operation.inputs):
                found.add(operation)
        return found

    def sources(self, operation: tf.Operation) -> list[tf.Tensor]:
        """The inputs of an operation that are computed from the pixels."""
        return [one for one in operation.inputs if one.op in self.computed]

    def between(self, start: tf.Tensor, end: tf.Tensor) -> list[tf.Operation]:
        """What `end` is made of, constants and weights too, from `start` on and in order."""
        found, waiting = {start.op}, [end.op]
        while waiting:
            if (operation := waiting.pop()) not in found:
                found.add(operation)
                waiting.extend(one.op for one in operation.inputs)
        return [one for one in self.graph.get_operations() if one in found and one is not start.op]

    def weights_between(self, start: tf.Tensor, end: tf.Tensor) -> dict[str, NDArray[np.generic]]:
        """The weights that `end` is made of, from `start` on, by the name of their placeholder."""
        names = [one.name for one in self.between(start, end)]
        return {name: self.weights[name] for name in names if name in self.weights}


@contextmanager
def restored(signature: Signature, folder: Path) -> Iterator[tf.compat.v1.Session]:
    """Opens the signature's graph in TensorFlow, on the CPU, its variables restored from `folder`."""
    options = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
    options.graph_options.rewrite_options.disable_meta_optimizer = (
        True  # Which computes constants first.
    )
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(signature.graph, name="")
        with tf.compat.v1.Session(graph=graph, config=options) as session:
            try:
                session.run(signature.restore, {signature.path: variables_of(folder)})
            except tf.errors.OpError as exc:
                raise CommandError(
                    f"The variables of {folder.name} are damaged or not its own; copy it anew."
                ) from exc
            yield session


def flat_graph(signature: Signature, folder: Path, size: tuple[int, int]) -> FlatGraph:
    """The signature's graph for pictures of `size` (height, width), with the weights it reads.

    Raises CommandError where the graph does not fit together.
    """
    try:
        variables = _variables(signature, folder)
        with tf.Graph().as_default() as graph:
            pixels = tf.compat.v1.placeholder(signature.dtype, (None, *size, 3))
            inliner = _Inliner(signature, variables, graph)
            scores = inliner.scores(pixels)
    # TensorFlow raises its own errors, ValueError and TypeError; graphlib CycleError, a ValueError.
    except CommandError:
        raise
    except Exception as exc:
        raise CommandError(f"TensorFlow cannot rebuild the model's graph: {first_line(exc)}") from exc
    return FlatGraph(graph, pixels, scores, inliner.weights)


def first_line(exc: Exception) -> str:
    """The first line of an error of TensorFlow, whose errors have many."""
    return (str(exc).strip() or type(exc).__name__).splitlines()[0][:200]


def _variables(signature: Signature, folder: Path) -> dict[str, NDArray[np.generic]]:
    """The values of the variables that the answer reads, by the name of their handle."""
    with restored(signature, folder) as session:
        reads = {}
        for name in signature.variables:
            handle = session.graph.get_operation_by_name(name)
            reads[name] = tf.raw_ops.ReadVariableOp(
                resource=handle.outputs[0], dtype=handle.get_attr("dtype")
            )
        values: dict[str, NDArray[np.generic]] = session.run(reads)
    return values


@dataclass(frozen=True)
class _Made:
    """The outputs of a node, and where among them each output begins that has a name."""

    values: Sequence[Value]
    begins: Mapping[str, int]

    def at(self, reference: str) -> Value:
        """One output, of `node`, `node:1` or `node:output:0`."""
        _, *place = reference.split(":")
        return self.values[self.begins[place[0]] + int(place[1]) if place[1:] else int(*place)]


class _Inliner:
    """Makes the operations of a signature in a graph, and those of functions where they are called."""

    def __init__(
        self, signature: Signature, variables: Mapping[str, NDArray[np.generic]], graph: tf.Graph
    ) -> None:
        self.weights: dict[str, NDArray[np.generic]] = {}
        self._signature = signature
        self._functions = {one.signature.name: one for one in signature.graph.library.function}
        self._variables = variables
        self._graph = graph
        self._placeholders: dict[str, tf.Tensor] = {}

    def scores(self, pixels: tf.Tensor) -> tf.Tensor:
        """Makes all operations from `pixels` to the scores."""
        restoring = (self._signature.restore, source_of(self._signature.path))
        nodes = [node for node in self._signature.graph.node if node.name not in restoring]
        given = {source_of(self._signature.pixels): _Made([pixels], {})}
        return self._returned(nodes, [self._signature.scores], given)[0]

    def _returned(
        self, nodes: Iterable[NodeDef], wanted: Sequence[str], given: Mapping[str, _Made]
    ) -> list[Value]:
        """The values that the references in `wanted` stand for."""
        made, named = dict(given), {node.name: node for node in nodes}
        sources = {name: [source_of(one) for one in node.input] for name, node in named.items()}
        for name in TopologicalSorter(sources).static_order():
            if name not in made:
                node = named[name]
                made[name] = self._made(node, [made[source_of(one)].at(one) for one in node.input])
        return [made[source_of(one)].at(one) for one in wanted]

    def _made(self, node: NodeDef, inputs: list[Value]) -> _Made:
        if node.op in CALLS:
            return _Made(self._called(self._functions[called_by(node)], inputs), {"output": 0})
        if node.op == "VarHandleOp":
            return _Made([node.name], {"resource": 0})
        if node.op == "ReadVariableOp":
            return _Made([self._weight(inputs[0])], {"value": 0})
        if node.op == "Identity" and inputs[0] in self._variables:
            return _Made(inputs, {"output": 0})
        operation = self._graph.create_op(node.op, inputs, attrs=dict(node.attr), name=node.op)
        return _Made(operation.outputs, _begins(operation))

    def _called(self, function: FunctionDef, inputs: Sequence[Value]) -> list[Value]:
        arguments = [one.name for one in function.signature.input_arg]
        given = {name: _Made([one], {}) for name, one in zip(arguments, inputs, strict=True)}
        wanted = [function.ret[one.name] for one in function.signature.output_arg]
        return self._returned(function.node_def, wanted, given)

    def _weight(self, variable: str) -> tf.Tensor:
        """The placeholder of a variable's value."""
        if variable not in self._placeholders:
            value = self._variables[variable]
            place = tf.compat.v1.placeholder(value.dtype, value.shape)
            self.weights[place.op.name] = value
            self._placeholders[variable] = place
        return self._placeholders[variable]


def _begins(operation: tf.Operation) -> dict[str, int]:
    """Where each output that its definition names begins among the tensors of an operation."""
    begins, at = {}, 0
    for argument in operation.op_def.output_arg:
        begins[argument.name] = at
        if argument.number_attr:
            at += operation.get_attr(argument.number_attr)
        elif argument.type_list_attr:
            at += len(operation.get_attr(argument.type_list_attr))
        else:
            at += 1
    return begins
