"""Reads the graph and the loss of a SavedModel as untrusted data, and checks its variables' index."""

import contextlib
import json
import math
import re
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from service.errors import CommandError, reason_of
from service.lab.models.saved.loss import Loss, loss_of
from service.lab.models.saved_model.folder import GRAPH, METADATA, VARIABLES, files_of, variables_of

MAX_GRAPH_BYTES = 2**26  # The largest seen, DenseNet121 of TensorFlow 2.3, has 9 million.
MAX_SLACK_BYTES = 2**26  # By which the files of the variables may be larger than their tensors.

TAG = "serve"


def read_meta_graph(folder: Path) -> MetaGraphDef:
    """The graph for serving, of a folder whose variables fit into their files. Raises CommandError."""
    files_of(folder)
    meta = _meta_graph(folder)
    _check_variables(folder)
    return meta


def _meta_graph(folder: Path) -> MetaGraphDef:
    try:
        with (folder / GRAPH).open("rb") as file:
            content = file.read(MAX_GRAPH_BYTES + 1)
    except OSError as exc:
        raise CommandError(f"{GRAPH} in {folder.name} cannot be read: {reason_of(exc)}.") from exc
    if len(content) > MAX_GRAPH_BYTES:
        raise CommandError(f"{GRAPH} in {folder.name} is larger than {MAX_GRAPH_BYTES} bytes.")
    try:
        saved = SavedModel.FromString(content)
    except Exception as exc:  # protobuf's DecodeError
        raise CommandError(f"{GRAPH} in {folder.name} is damaged; copy it anew.") from exc
    found = [one for one in saved.meta_graphs if TAG in one.meta_info_def.tags]
    if len(found) != 1:
        raise CommandError(
            f"{GRAPH} in {folder.name} holds {len(found)} graphs for serving instead of one; "
            "save the model again."
        )
    return found[0]


def _check_variables(folder: Path) -> None:
    """Checks that all tensors fit into their files, and that the files hold little else."""
    data = sum(one.stat().st_size for one in (folder / VARIABLES).glob("variables.data-*"))
    try:
        reader = tf.train.load_checkpoint(variables_of(folder))
        dtypes, shapes = reader.get_variable_to_dtype_map(), reader.get_variable_to_shape_map()
    except Exception as exc:  # TensorFlow raises its own errors, ValueError and RuntimeError.
        raise CommandError(f"The variables of {folder.name} are missing or damaged.") from exc
    numbers = [name for name, dtype in dtypes.items() if dtype != tf.string]
    tensors = sum(math.prod(shapes[name]) * int(dtypes[name].size) for name in numbers)
    if not tensors <= data <= tensors + MAX_SLACK_BYTES:
        raise CommandError(
            f"The variables of {folder.name} are damaged: they need {tensors} bytes, and have {data}."
        )


def read_loss(folder: Path) -> Loss:
    """The loss that Keras 2 wrote into a SavedModel; Keras 3 exports none.

    It is in the text (JSON) that describes the model, since TensorFlow 2.5 in a file of its own.
    """
    file = next(one for one in (folder / METADATA, folder / GRAPH) if one.exists())
    with file.open("rb") as opened:
        text = opened.read(MAX_GRAPH_BYTES).decode(errors="replace")
    if found := re.search(r'"training_config": *(?={)', text):
        with contextlib.suppress(ValueError, RecursionError):
            return loss_of(json.JSONDecoder().raw_decode(text, found.end())[0])
    return Loss()
