"""Publishes a saved model as a version: cut, compile, prove, publish."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.errors import CommandError
from service.lab.models import compile as compiling
from service.lab.models import golden
from service.lab.models.cutting import OpenedSource
from service.serving.engines.openvino import OpenVinoEngine
from service.serving.host import available_cores
from service.store.card import (
    Backbone,
    Card,
    Decode,
    Exif,
    Input,
    Origin,
    Preprocessing,
    Resize,
    Source,
    Structure,
    Training,
)
from service.store.layout import Store, sha256_of
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
    exif: Exif = "applied"
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()
    training: Training | None = None


def publish(store: Store, opened: OpenedSource, description: Description) -> Card:
    """Publishes a saved model as the newest version of a head. Raises what `prepared` raises."""
    with prepared(store, opened, description) as (folder, card):
        return publish_version(store, folder, card)


@contextlib.contextmanager
def prepared(
    store: Store, opened: OpenedSource, description: Description
) -> Iterator[tuple[Path, Card]]:
    """Yields a staged folder and its card for `publish_version`; deletes the folder if it is left.

    Raises CommandError, and leaves the store as it was, when the model is not supported, or when an
    engine differs from the framework that reads the source by more than 1e-4 in a probability.
    """
    with staged(store.root) as folder:
        yield folder, _fill(store, folder, opened, description)


def _fill(store: Store, folder: Path, opened: OpenedSource, description: Description) -> Card:
    """Writes the files of a version except its card to `folder`, and its networks to the store."""
    cut = opened.cut(description.size, description.preprocessing)
    if cut.classes != len(description.labels):
        raise CommandError(
            f"The model has {cut.classes} classes, but {len(description.labels)} labels were given."
        )
    height, width = description.size
    spec = Input(
        height=height,
        width=width,
        exif=description.exif,
        decode=description.decode,
        resize=description.resize,
        preprocessing=cut.preprocessing,
    )
    files = golden.candidates()
    pixels = golden.decoded(files, spec)
    expected = cut.whole(pixels)
    _check_sums(expected)

    graphs = cut.graphs()
    engine = OpenVinoEngine(available_cores())
    backbone, head = (engine.compile(graph) for graph in graphs)
    _check_agreement(head(backbone(pixels)), expected)

    source = _kept(opened, folder)
    digests = [compiling.digest_of(graph) for graph in graphs]
    for graph, digest in zip(graphs, digests, strict=True):
        compiling.store_openvino(store, graph, digest)
    return Card(
        head=description.head,
        version=1,
        created=datetime.now(UTC),
        source=source,
        input=spec,
        output=cut.output,
        labels=description.labels,
        backbone=Backbone(
            digest=digests[0], parameters=cut.backbone_parameters, feature_shape=cut.feature_shape
        ),
        structure=Structure(
            digest=digests[1],
            pooling=cut.pooling,
            filter=cut.filter,
            stride=cut.stride,
            hidden_units=cut.hidden_units,
            parameters=cut.head_parameters,
            weight_bytes=cut.head_bytes,
        ),
        origin=description.origin,
        notes=description.notes,
        training=description.training,
        golden=golden.choose_golden(files, expected),
    )


def _kept(opened: OpenedSource, folder: Path) -> Source:
    """Copies the files of a source to a version's folder, which is empty."""
    opened.keep(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return Source(
        format=opened.format,
        files={file.relative_to(folder).as_posix(): sha256_of(file) for file in files},
        bytes=sum(file.stat().st_size for file in files),
    )


def _check_sums(probabilities: NDArray[np.float32]) -> None:
    """Checks that probabilities sum to 1, which a layer after the softmax or NaN weights would break."""
    if not (probabilities.min() >= 0 and np.allclose(probabilities.sum(axis=1), 1, atol=SUM_TOLERANCE)):
        raise CommandError(
            "The model's outputs are no probabilities: for one picture they must sum to 1."
        )


def _check_agreement(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    difference = float(np.abs(actual - expected).max())
    if not difference <= TOLERANCE:
        raise CommandError(
            f"OpenVINO differs from the model's own framework by {difference:.2g} on a probability, "
            f"more than {TOLERANCE:g}."
        )
