"""Takes out of a saved graph what its serving signature computes, written anew from known operations."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.op_def_pb2 import OpDef
from tensorflow.core.framework.types_pb2 import DT_BFLOAT16, DT_FLOAT, DT_HALF
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, TensorInfo

from service.errors import CommandError
from service.lab.models.saved_model.allowed import (
    ANSWERING,
    CALLS,
    RESTORING,
    STARTING,
    UNUSED,
    refusal,
)
from service.lab.models.saved_model.meta_graph import read_meta_graph

NAMES = ("serving_default", "serve")  # The first is the one that TensorFlow Serving asks.
HALVES = {DT_HALF: "float16", DT_BFLOAT16: "bfloat16"}
MAX_ELEMENTS = 2**24  # Of a constant. Weights are variables, in files of their own.
MAP_RANK = 4  # Pictures, height, width, channels.
MAX_CALLS = 50  # From function to function.
MAX_OPERATIONS = 20_000  # With those of functions, once for each call. DenseNet121 of Keras 3 has 3,000.

Nodes = Mapping[str, NodeDef]
Functions = Mapping[str, FunctionDef]


@dataclass(frozen=True)
class Signature:
    """What a SavedModel computes of its one input, and how its variables are restored.

    `graph` holds nothing else, and computes in float32; `half` names the precision it was saved in.
    `pixels` and `scores` are names of tensors, `variables` those of the handles that the answer reads;
    the operation `restore` reads them from the files whose path is given to the tensor `path`.
    """

    graph: GraphDef
    pixels: str
    dtype: tf.DType
    size: tuple[int | None, int | None]
    scores: str
    variables: tuple[str, ...]
    path: str
    restore: str
    half: str | None


def read_signature(folder: Path) -> Signature:
    """Reads the serving signature of a SavedModel folder. Raises CommandError."""
    meta = read_meta_graph(folder)
    source, target = _ends(meta)
    nodes = {node.name: node for node in meta.graph_def.node}
    functions = {one.signature.name: one for one in meta.graph_def.library.function}
    excerpt = _Excerpt(functions)
    answering = excerpt.reached(nodes, [target.name], STARTING)
    restore = _restoring(meta, nodes, functions)
    restoring = [_bare(nodes[source_of(name)]) for name in (*restore.input, restore.name)]
    restorer = functions[called_by(restore)]
    graph = GraphDef(versions=meta.graph_def.versions)
    graph.node.extend({node.name: node for node in (*answering, *restoring)}.values())
    graph.library.function.extend(excerpt.functions.values())
    graph.library.function.append(_bare_function(restorer, map(_bare, restorer.node_def)))
    return Signature(
        graph=graph,
        pixels=source.name,
        dtype=tf.dtypes.as_dtype(DT_FLOAT if source.dtype in HALVES else source.dtype),
        size=_size(source),
        scores=target.name,
        variables=tuple(node.name for node in answering if node.op == "VarHandleOp"),
        path=meta.saver_def.filename_tensor_name,
        restore=restore.name,
        half=excerpt.half,
    )


def source_of(reference: str) -> str:
    """The name of the node that an input refers to: `node`, `node:1`, `node:output:0` or `^node`."""
    return reference.removeprefix("^").split(":")[0]


def called_by(node: NodeDef) -> str:
    """The name of the function that a node calls."""
    return str(node.attr["f"].func.name)


def _ends(meta: MetaGraphDef) -> tuple[TensorInfo, TensorInfo]:
    """The one input and the one output of the signature."""
    chosen = next((meta.signature_def[name] for name in NAMES if name in meta.signature_def), None)
    if chosen is None:
        others = ", ".join(name for name in sorted(meta.signature_def) if not name.startswith("__"))
        raise CommandError(f"The model has no signature {NAMES[0]}, but: {others[:100] or 'none'}.")
    inputs, outputs = list(chosen.inputs.values()), list(chosen.outputs.values())
    if len(inputs) != 1 or len(outputs) != 1:
        raise CommandError(
            f"The model must have one input and one output; it has {len(inputs)} and {len(outputs)}."
        )
    if not _is_number(inputs[0].dtype):
        raise CommandError(
            "The model takes no numbers, but files or examples; export it to take (height, width, 3)."
        )
    return inputs[0], outputs[0]


def _is_number(dtype: int) -> bool:
    try:
        kind = tf.dtypes.as_dtype(dtype)
    except TypeError:
        return False
    return bool(kind.is_floating or kind.is_integer)


def _size(source: TensorInfo) -> tuple[int | None, int | None]:
    """The (height, width) of the input; None for a dimension of any size."""
    if source.tensor_shape.unknown_rank:
        return None, None
    shape = tuple(one.size if one.size > 0 else None for one in source.tensor_shape.dim)
    if len(shape) != MAP_RANK or shape[3] not in (None, 3):
        raise CommandError(f"The model's input is {shape[1:]}; (height, width, 3) is needed.")
    return shape[1], shape[2]


def _restoring(meta: MetaGraphDef, nodes: Nodes, functions: Functions) -> NodeDef:
    """The node that restores all variables, from the files it is told of and no others."""
    path = nodes.get(source_of(meta.saver_def.filename_tensor_name))
    restore = nodes.get(meta.saver_def.restore_op_name)
    function = functions.get(called_by(restore)) if restore is not None else None
    if path is None or restore is None or function is None:
        raise CommandError("The model does not say how its variables are restored; save it again.")
    arguments = [one.name for one in function.signature.input_arg]
    told, *handles = restore.input or [""]
    is_plain = (
        restore.op in CALLS
        and path.op == "Placeholder"
        and told == path.name
        and all(name in nodes and nodes[name].op == "VarHandleOp" for name in handles)
        and all(node.op in RESTORING for node in function.node_def)
        and all(node.input[:1] == arguments[:1] for node in function.node_def if node.op == "RestoreV2")
    )
    if not is_plain:
        raise CommandError("The model restores its variables in a way of its own; save it with Keras.")
    return restore


class _Excerpt:
    """The nodes that an answer depends on, and the functions they call, checked and written anew.

    Their operations compute in float32, whatever they were saved in.
    """

    def __init__(self, saved: Functions) -> None:
        self.functions: dict[str, FunctionDef] = {}
        self.half: str | None = None
        self._saved = saved
        self._operations: dict[str, int] = {}  # Of each function, with those that it calls.

    def reached(
        self, nodes: Nodes, references: Iterable[str], allowed: frozenset[str], calls: int = 0
    ) -> list[NodeDef]:
        """The nodes that these inputs depend on, without those that they merely wait for."""
        found: set[str] = set()
        waiting = list(references)
        while waiting:
            if (name := source_of(waiting.pop())) in nodes and name not in found:
                found.add(name)
                waiting.extend(_data(nodes[name]))
        kept = [node for name, node in nodes.items() if name in found]
        for node in kept:
            if node.op not in allowed:
                raise refusal(node.op)
            if node.op in CALLS:
                self._enter(called_by(node), calls + 1)
        self._operations_of(kept)
        return [self._written(node) for node in kept]

    def _enter(self, name: str, calls: int) -> None:
        """Keeps what a function returns; the rest of it is checked as well, and left out."""
        if name in self.functions:
            if not self.functions[name].signature.name:  # It is still being entered.
                raise CommandError("The model's functions call themselves; no classifier needs that.")
            return
        function = self._saved.get(name)
        if function is None or calls > MAX_CALLS:
            raise CommandError("The model calls functions that it does not hold; save it again.")
        self.functions[name] = FunctionDef()
        for node in function.node_def:
            if node.op not in ANSWERING | UNUSED:
                raise refusal(node.op)
            if node.op in CALLS:
                self._enter(called_by(node), calls + 1)
        nodes = {node.name: node for node in function.node_def}
        returned = self.reached(nodes, function.ret.values(), ANSWERING, calls)
        self._operations[name] = self._operations_of(returned)
        kept = self.functions[name] = _bare_function(function, returned)
        for argument in (*kept.signature.input_arg, *kept.signature.output_arg):
            argument.type = self._wide(argument.type)

    def _operations_of(self, nodes: Iterable[NodeDef]) -> int:
        """How many operations these nodes are once calls are replaced by what they call.

        Raises CommandError where they are too many: TensorFlow replaces calls too, and would not end.
        """
        count = sum(self._operations[called_by(node)] if node.op in CALLS else 1 for node in nodes)
        if count > MAX_OPERATIONS:
            raise CommandError(
                f"The model has more than {MAX_OPERATIONS} operations; no classifier needs that."
            )
        return count

    def _written(self, node: NodeDef) -> NodeDef:
        kept = _bare(node)
        del kept.input[len(_data(node)) :]  # Inputs to wait for come last.
        if node.op == "VarHandleOp" and node.attr["dtype"].type in HALVES:
            raise CommandError("The model keeps its weights in float16; save it in float32.")
        for value in kept.attr.values():
            if value.HasField("type"):
                value.type = self._wide(value.type)
            if value.HasField("list"):
                value.list.type[:] = [self._wide(one) for one in value.list.type]
            if value.HasField("tensor"):
                self._widen(value)
        return kept

    def _widen(self, value: AttrValue) -> None:
        """Checks that a constant is as large as it says, and makes it float32."""
        elements = 1
        for dim in value.tensor.tensor_shape.dim:
            elements *= dim.size
        if not 0 <= elements <= MAX_ELEMENTS:
            raise CommandError(f"The model holds a constant of {elements} numbers; save it with Keras.")
        try:
            constant = tf.make_ndarray(value.tensor)
        except (TypeError, ValueError) as exc:
            raise CommandError("The model holds a damaged constant; save it again.") from exc
        if (kind := self._wide(value.tensor.dtype)) != value.tensor.dtype:
            value.tensor.CopyFrom(tf.make_tensor_proto(constant.astype(np.float32), dtype=kind))

    def _wide(self, kind: int) -> int:
        self.half = HALVES.get(kind, self.half)
        return DT_FLOAT if kind in HALVES else kind


def _data(node: NodeDef) -> list[str]:
    """The inputs of a node without those that it only waits for."""
    return [one for one in node.input if not one.startswith("^")]


def _bare(node: NodeDef) -> NodeDef:
    """A node without what it says of devices, compilers and gradients."""
    kept = NodeDef(name=node.name, op=node.op, input=node.input)
    for name, value in node.attr.items():
        if node.op in CALLS and name == "f":
            kept.attr[name].func.name = value.func.name
        elif not name.startswith("_") and name not in ("config", "config_proto", "executor_type"):
            kept.attr[name].CopyFrom(value)
    return kept


def _bare_function(function: FunctionDef, nodes: Iterable[NodeDef]) -> FunctionDef:
    """A function of these nodes, with its arguments and what it returns."""
    saved = function.signature
    signature = OpDef(name=saved.name, is_stateful=saved.is_stateful)
    signature.input_arg.extend(OpDef.ArgDef(name=one.name, type=one.type) for one in saved.input_arg)
    signature.output_arg.extend(OpDef.ArgDef(name=one.name, type=one.type) for one in saved.output_arg)
    kept = FunctionDef(signature=signature, ret=function.ret)
    kept.node_def.extend(nodes)
    return kept
