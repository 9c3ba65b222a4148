"""Compiles the two networks of a split to the engines' files, and names them by content (digest)."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import keras
import openvino as ov
import tensorflow as tf
from openvino.frontend.tensorflow import utils as frontend
from openvino.tools.ovc.logger import get_logger_state, restore_logger_state

from service.errors import CommandError
from service.serving.engines import EngineName
from service.serving.engines.keras import NETWORK as KERAS_NETWORK
from service.serving.engines.openvino import NETWORK as OPENVINO_NETWORK
from service.store.layout import NotCompiled, Store
from service.store.publish import publish_compiled, staged

# OpenVINO's own does exec("import tensorflow") and exec("del tensorflow"), which raises NameError since
# Python 3.13 (PEP 667). Of what it returns only TensorFlow's version is read.
frontend.get_environment_setup = lambda _: {"tensorflow": tf.__version__}


def to_openvino(model: keras.Model) -> ov.Model:
    """Converts the model's inference graph to float32, for any batch size. Raises CommandError."""
    source = model.inputs[0]
    signature = [tf.TensorSpec((None, *source.shape[1:]), source.dtype)]
    function = tf.function(
        lambda batch: model(batch, training=False), input_signature=signature, autograph=False
    )
    return converted(function.get_concrete_function())


def converted(graph: tf.types.experimental.ConcreteFunction) -> ov.Model:
    """Converts a traced TensorFlow function of one input and one output. Raises CommandError."""
    logger_state = get_logger_state()
    try:
        # Naming the output leaves out operations that augmentation layers left in the graph. Weights are
        # copied: OpenVINO would go on reading TensorFlow's memory after its variables are gone.
        return ov.convert_model(graph, output=[graph.outputs[0].name], share_weights=False)
    # OpenVINO raises OpConversionFailure, whose parent is Exception, or RuntimeError.
    except Exception as exc:
        restore_logger_state(logger_state)  # OpenVINO does so only where it succeeds.
        found = re.search("No conversion rule found for operations: (.+)", str(exc))
        reason = f"it has no rule for {found[1]}" if found else str(exc).strip().splitlines()[-1]
        raise CommandError(f"OpenVINO cannot run the model: {reason}.") from exc


def digest_of(graph: ov.Model) -> str:
    """The sha256 of operations, attributes, constants and connections; names do not count.

    It is a Merkle hash: each node's hash covers those of its inputs, so that the order of nodes does not
    matter.
    """
    digests: dict[str, bytes] = {}
    for node in graph.get_ordered_ops():
        mine = hashlib.sha256(f"{node.get_type_name()} {sorted(node.get_attributes().items())}".encode())
        if node.get_type_name() == "Constant":
            mine.update(node.data.tobytes())
        for source in (port.get_source_output() for port in node.inputs()):
            mine.update(digests[source.get_node().get_name()] + bytes([source.get_index()]))
        digests[node.get_name()] = mine.digest()
    results = b"".join(digests[result.get_name()] for result in graph.get_results())
    return hashlib.sha256(results).hexdigest()


def store_openvino(store: Store, graph: ov.Model, digest: str) -> None:
    """Writes the compiled files of a graph, unless the store has them already."""

    def write(folder: Path) -> None:
        ov.save_model(graph, folder / OPENVINO_NETWORK, compress_to_fp16=False)

    _store(store, digest, "openvino", f"openvino {ov.__version__}", write)


def store_keras(store: Store, model: keras.Model, digest: str) -> None:
    """Writes a network for the keras engine, unless the store has it already."""
    _store(
        store,
        digest,
        "keras",
        f"keras {keras.__version__}",
        lambda folder: model.save(folder / KERAS_NETWORK),
    )


def _store(
    store: Store, digest: str, engine: EngineName, built_with: str, write: Callable[[Path], None]
) -> None:
    try:
        store.compiled(digest, engine)
    except NotCompiled:
        with staged(store.derived_root()) as folder:
            write(folder)
            publish_compiled(store, digest, engine, folder, built_with)
