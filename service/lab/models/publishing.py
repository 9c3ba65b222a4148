"""Publishes a saved model file as a version: split, verify, compile, check, publish."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from service.errors import CommandError
from service.lab.models import compile as compiling
from service.lab.models import golden
from service.lab.models.reading import load_model
from service.lab.models.split import Split, split
from service.serving.engines.openvino import OpenVinoEngine
from service.serving.host import available_cores
from service.store.card import (
    Backbone,
    Card,
    Decode,
    Input,
    Origin,
    Preprocessing,
    Resize,
    Structure,
    Training,
)
from service.store.layout import MODEL, Store, sha256_of
from service.store.publish import publish_version, staged

TOLERANCE = 1e-4
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Description:
    """What a model file does not state. `preprocessing` None: found out from the model's graph."""

    head: str
    labels: tuple[str, ...]
    size: tuple[int, int]
    origin: Origin
    decode: Decode = "exact"
    resize: Resize = "bilinear"
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()
    training: Training | None = None


def publish(store: Store, model_file: Path, description: Description) -> Card:
    """Publishes a saved model as the newest version of a head. Raises what `prepared` raises."""
    with prepared(store, model_file, description) as (folder, card):
        return publish_version(store, folder, card)


@contextlib.contextmanager
def prepared(store: Store, model_file: Path, description: Description) -> Iterator[tuple[Path, Card]]:
    """Yields a staged folder and its card for `publish_version`; deletes the folder if it is left.

    Raises CommandError, and leaves the store as it was, when the model is not supported, or when an
    engine differs from Keras by more than 1e-4 in a probability.
    """
    with staged(store.root) as folder:
        yield folder, _fill(store, folder, model_file, description)


def _fill(store: Store, folder: Path, model_file: Path, description: Description) -> Card:
    """Writes the files of a version except its card to `folder`, and its networks to the store."""
    model = load_model(model_file)
    cut = split(model, description.size, description.preprocessing)
    if cut.classes != len(description.labels):
        raise CommandError(
            f"The model has {cut.classes} classes, but {len(description.labels)} labels were given."
        )
    height, width = description.size
    spec = Input(
        height=height,
        width=width,
        decode=description.decode,
        resize=description.resize,
        preprocessing=cut.preprocessing,
    )
    files = golden.candidates()
    pixels = golden.decoded(files, spec)
    expected = whole(model, cut, pixels)
    _check_sums(expected)
    _agree("The split model", _run(cut.head, _run(cut.backbone, pixels)), expected)

    graphs = [compiling.to_openvino(part) for part in (cut.backbone, cut.head)]
    engine = OpenVinoEngine(available_cores())
    backbone, head = (engine.compile(graph) for graph in graphs)
    _agree("OpenVINO", head(backbone(pixels)), expected)

    digests = [compiling.digest_of(graph) for graph in graphs]
    shutil.copyfile(model_file, folder / MODEL)
    for graph, digest in zip(graphs, digests, strict=True):
        compiling.store_openvino(store, graph, digest)
    return Card(
        head=description.head,
        version=1,
        created=datetime.now(UTC),
        model_sha256=sha256_of(folder / MODEL),
        model_bytes=model_file.stat().st_size,
        input=spec,
        output=cut.output,
        labels=description.labels,
        backbone=_backbone(cut, digests[0]),
        structure=_structure(cut, digests[1]),
        origin=description.origin,
        notes=description.notes,
        training=description.training,
        golden=golden.choose_golden(files, expected),
    )


def whole(model: keras.Model, cut: Split, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The probabilities of the whole saved model in Keras, (n, h, w, 3) -> (n, classes)."""
    values = pixels.astype(np.float32)
    if cut.preprocessing != "none":
        values = keras.applications.imagenet_utils.preprocess_input(values, mode=cut.preprocessing)
    # A model may take and return lists or dicts of one tensor.
    outputs = _run(keras.Model(model.inputs[0], model.outputs[0]), values).astype(np.float32)
    match cut.output.to_probabilities:
        case "complement":
            outputs = np.concatenate([1 - outputs, outputs], axis=1)
        case "softmax":
            outputs = keras.ops.convert_to_numpy(keras.ops.softmax(outputs))
    result: NDArray[np.float32] = outputs
    return result


def _run(model: keras.Model, batch: NDArray[np.generic]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = keras.ops.convert_to_numpy(model(batch, training=False))
    return result


def _check_sums(probabilities: NDArray[np.float32]) -> None:
    """Checks that probabilities sum to 1, which a layer after the softmax or NaN weights would break."""
    if not (probabilities.min() >= 0 and np.allclose(probabilities.sum(axis=1), 1, atol=SUM_TOLERANCE)):
        raise CommandError(
            "The model's outputs are no probabilities: for one picture they must sum to 1."
        )


def _agree(what: str, actual: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    difference = float(np.abs(actual - expected).max())
    if not difference <= TOLERANCE:
        raise CommandError(
            f"{what} differs from Keras by {difference:.2g} on a probability, more than {TOLERANCE:g}."
        )


def _backbone(cut: Split, digest: str) -> Backbone:
    return Backbone(
        digest=digest, parameters=cut.backbone.count_params(), feature_shape=cut.feature_shape
    )


def _structure(cut: Split, digest: str) -> Structure:
    return Structure(
        digest=digest,
        pooling=cut.pooling,
        filter=cut.filter,
        stride=cut.stride,
        hidden_units=cut.hidden_units,
        parameters=cut.head.count_params(),
        weight_bytes=sum(weight.numpy().nbytes for weight in cut.head.weights),
    )
