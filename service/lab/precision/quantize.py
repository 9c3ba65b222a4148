"""`resnet-heads quantize`: makes one int8 backbone for heads that share theirs; heads stay float32."""

import service.serving.engines.quiet_tensorflow  # noqa: F401 (before Keras)

# isort: split

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import openvino as ov

from service.console import say
from service.errors import CommandError
from service.lab.checks import INT8, check_quantize
from service.lab.data import photographs
from service.lab.data.features import Decoded
from service.lab.data.photographs import TRAIN, Photograph, Photographs
from service.lab.models import golden
from service.lab.models.compile import digest_of
from service.lab.models.recompile import recompile
from service.lab.precision import int8
from service.lab.training.trials import Trial, compare_heads, read_batches, usable
from service.serving.engines import Network
from service.serving.engines.openvino import NETWORK, WEIGHTS, OpenVinoEngine
from service.serving.host import available_cores
from service.store.card import Card, Golden, Quantization
from service.store.layout import Store, sha256_of
from service.store.publish import publish_version, staged

CALIBRATION_IMAGES = 300  # NNCF's own default
# The same graph on kernels for AVX2, with VNNI or without, gave equal features; those for SSE4.1 were
# 2 % of the features' spread away, which the layers of a head may enlarge.
GOLDEN_TOLERANCE = 0.05


@dataclass(frozen=True)
class Int8Backbone:
    """The int8 backbone of a run, and its origin; `data` is the digest of the photographs."""

    graph: ov.Model
    digest: str
    network: Network
    images_calibration: int
    data: str


def quantize(store: Store, cards: Sequence[Card], folder: Path, max_drop: float) -> list[Card]:
    """Publishes `<head>-int8` for each card, all on one int8 backbone.

    Raises CommandError or VersionError, and publishes nothing, when the heads do not share a backbone,
    the pictures' classes are not their labels, or an accuracy falls by more than `max_drop` points.
    """
    check_quantize(store, cards, folder, max_drop)
    found = photographs.read_photographs(folder)
    for note in found.notes:
        say(note)
    for card in cards:
        store.source_of(card)  # Checks its files: the published version holds copies of them.
        recompile(store, card.head, card.version, "openvino")
    decoded = Decoded(cards[0].input, available_cores())
    batches = read_batches(decoded, choose_for_calibration(found), "Reading pictures")
    pictures = [row[np.newaxis] for _, rows in batches for row in rows]
    found = usable(found, decoded)

    engine = OpenVinoEngine(available_cores())
    source = ov.Core().read_model(store.backbone_of(cards[0], "openvino") / NETWORK)
    graph = int8.to_int8(source, pictures)
    networks = (engine.compile(source), engine.compile(graph))
    heads = [engine.open(store.head_of(card, "openvino")) for card in cards]
    trials = compare_heads(cards, heads, networks, decoded, found)
    found = usable(found, decoded)
    _check_drops(trials, max_drop)
    backbone = Int8Backbone(graph, digest_of(graph), networks[1], len(pictures), found.digest())
    return _publish(store, trials, backbone, max_drop)


def choose_for_calibration(found: Photographs) -> list[Photograph]:
    """Chooses at most 300 training pictures, equally from all classes, by content hash."""
    by_class: list[list[Photograph]] = [[] for _ in found.labels]
    for one in sorted(found.splits[TRAIN], key=lambda one: one.sha256):
        by_class[one.label].append(one)
    in_turn = chain.from_iterable(zip_longest(*by_class))
    return [one for one in in_turn if one is not None][:CALIBRATION_IMAGES]


def _check_drops(trials: Sequence[Trial], max_drop: float) -> None:
    for one in trials:
        if one.drop() > max_drop:
            raise CommandError(
                f"The accuracy of {one.card.head} falls by {one.drop():.1f} points, from "
                f"{one.right(one.before)} to {one.right(one.after)} of {len(one.truth)} held-out "
                f"pictures; --max-drop allows {max_drop:g}. Nothing is published."
            )


def _publish(
    store: Store, trials: Sequence[Trial], backbone: Int8Backbone, max_drop: float
) -> list[Card]:
    """Prepares the folders of all versions before it publishes the first."""
    with contextlib.ExitStack() as stack:
        ready = []
        for one in trials:
            folder = stack.enter_context(staged(store.root))
            source = store.source_of(one.card)
            copy = shutil.copytree if source.is_dir() else shutil.copyfile
            copy(source, folder / source.name)
            ov.save_model(backbone.graph, folder / NETWORK, compress_to_fp16=False)
            ready.append((folder, _card(one, backbone, folder, max_drop)))
        return [publish_version(store, folder, card) for folder, card in ready]


def _card(one: Trial, backbone: Int8Backbone, folder: Path, max_drop: float) -> Card:
    """The float32 head's card with a new backbone and golden answer, and without its training scores."""
    card, images = one.card, len(one.truth)
    quantization = Quantization(
        source_head=card.head,
        source_version=card.version,
        files={name: sha256_of(folder / name) for name in (NETWORK, WEIGHTS)},
        built_with=int8.BUILT_WITH,
        weight_bytes=int8.constant_bytes(backbone.graph),
        images_calibration=backbone.images_calibration,
        images_test=images,
        data=backbone.data,
        accuracy_before=one.right(one.before) / images,
        accuracy_after=one.right(one.after) / images,
        agreement=float(np.mean(one.before == one.after)),
        max_drop=max_drop,
    )
    changes = {
        "head": card.head + INT8,
        "created": datetime.now(UTC),
        "backbone": card.backbone.model_copy(update={"digest": backbone.digest}),
        "precision": "int8",
        "training": None,
        "quantization": quantization,
        "golden": _golden(one, backbone),
    }
    return card.model_copy(update=changes)


def _golden(one: Trial, backbone: Int8Backbone) -> Golden:
    """The int8 backbone's own answer here; its tolerance rejects wrong answers of any confidence."""
    files = golden.candidates()
    features = backbone.network(golden.decoded(files, one.card.input))
    chosen = golden.choose_golden(files, one.network(features))
    return chosen.model_copy(update={"tolerance": min(GOLDEN_TOLERANCE, max(chosen.probabilities) / 2)})
