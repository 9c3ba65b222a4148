"""`resnet-heads quantize`: heads on one backbone of lower precision, or with int8 weights, or both.

What a head's own layers compute stays float32.
"""

import service.serving.engines.quiet_tensorflow  # noqa: F401 (before Keras)

# isort: split

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from service.console import say
from service.errors import CommandError
from service.lab.checks import check_quantize
from service.lab.data import photographs
from service.lab.data.features import Decoded
from service.lab.data.photographs import TRAIN, Photograph, Photographs
from service.lab.models import golden
from service.lab.models.compile import digest_of
from service.lab.models.recompile import recompile
from service.lab.precision import int8
from service.lab.precision.choice import Choice
from service.lab.precision.trials import Networks, Trial, compare_heads, read_batches, usable
from service.serving.engines import Network
from service.serving.engines.openvino import NETWORK, OpenVinoEngine
from service.serving.engines.openvino_channels import reorder_weights
from service.serving.host import available_cores
from service.store.card import Card, Golden, Precision, Quantization, Structure
from service.store.layout import BACKBONE, HEAD, Store, sha256_of
from service.store.publish import publish_version, staged

CALIBRATION_IMAGES = 300  # NNCF's own default
# The same graph on kernels for AVX2, with VNNI or without, gave equal features; those for SSE4.1 were
# 2 % of the features' spread away, which the layers of a head may enlarge.
GOLDEN_TOLERANCE = 0.05
WEIGHT_BYTES = {"f32": 4, "bf16": 2}


@dataclass(frozen=True)
class MadeBackbone:
    """The backbone of a run; that of int8 is a `graph` of its own."""

    network: Network
    digest: str
    weight_bytes: int
    graph: ov.Model | None = None
    images_calibration: int = 0


@dataclass(frozen=True)
class MadeHead:
    """A head of a run; one with int8 weights is a `graph` of its own."""

    network: Network
    structure: Structure
    graph: ov.Model | None = None


def quantize(
    store: Store, cards: Sequence[Card], choice: Choice, folder: Path | None, max_drop: float
) -> list[Card]:
    """Publishes what `choice` makes of each card, all on one backbone.

    Photographs in `folder` calibrate an int8 backbone, and tell what the choice costs.
    Raises CommandError or VersionError, and publishes nothing, when the heads do not share a backbone,
    the pictures' classes are not their labels, or an accuracy falls by more than `max_drop` points.
    """
    check_quantize(store, cards, choice, folder, max_drop)
    engine = OpenVinoEngine(available_cores())
    if folder and engine.computes_in(choice.precision) != choice.precision:
        raise CommandError(
            f"This processor has no {choice.precision}, so that its cost cannot be measured here: "
            "leave out --images, or measure on another."
        )
    found = photographs.read_photographs(folder) if folder else None
    for note in found.notes if found else ():
        say(note)
    for card in cards:
        store.source_of(card)  # Checks its files, which the published version has too.
        recompile(store, card.head, card.version, "openvino")
    decoded = Decoded(cards[0].input, available_cores())
    source = ov.Core().read_model(store.backbone_of(cards[0], "openvino") / NETWORK)
    reorder_weights(source)
    if choice.precision == "int8" and found:
        backbone = _int8_backbone(engine, source, found, decoded)
    else:
        backbone = _same_backbone(engine, source, cards[0], choice.precision)
    heads = [_head(engine, store.head_of(card, "openvino"), card, choice) for card in cards]
    costs: list[dict[str, Any]] = [{} for _ in cards]
    if found:
        found = usable(found, decoded)
        sources = [engine.open(store.head_of(card, "openvino")) for card in cards]
        before = Networks(engine.compile(source), sources)
        after = Networks(backbone.network, [head.network for head in heads])
        trials = compare_heads(cards, before, after, decoded, found)
        data = usable(found, decoded).digest()
        _check_drops(trials, max_drop)
        costs = [_cost(one) | {"data": data, "max_drop": max_drop} for one in trials]
    return _publish(store, choice, list(zip(cards, heads, costs, strict=True)), backbone)


def _same_backbone(
    engine: OpenVinoEngine, source: ov.Model, card: Card, precision: Precision
) -> MadeBackbone:
    """The same graph, which the engine computes in this precision."""
    return MadeBackbone(
        network=engine.compile(source, precision),
        digest=card.backbone.digest,
        weight_bytes=WEIGHT_BYTES[precision] * card.backbone.parameters,
    )


def _head(engine: OpenVinoEngine, folder: Path, card: Card, choice: Choice) -> MadeHead:
    """The head in `folder`, with int8 weights where they are chosen."""
    if choice.head_weights == "f32":
        return MadeHead(engine.open(folder), card.structure)
    graph = int8.with_int8_weights(ov.Core().read_model(folder / NETWORK))
    changes = {"digest": digest_of(graph), "weight_bytes": int8.constant_bytes(graph)}
    return MadeHead(engine.compile(graph), card.structure.model_copy(update=changes), graph)


def _int8_backbone(
    engine: OpenVinoEngine, source: ov.Model, found: Photographs, decoded: Decoded
) -> MadeBackbone:
    batches = read_batches(decoded, choose_for_calibration(found), "Reading pictures")
    pictures = [row[np.newaxis] for _, rows in batches for row in rows]
    graph = int8.to_int8(source, pictures)
    return MadeBackbone(
        network=engine.compile(graph),
        digest=digest_of(graph),
        weight_bytes=int8.constant_bytes(graph),
        graph=graph,
        images_calibration=len(pictures),
    )


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


def _cost(one: Trial) -> dict[str, Any]:
    """The fields of a card that say what the choice costs."""
    images = len(one.truth)
    return {
        "images_test": images,
        "accuracy_before": one.right(one.before) / images,
        "accuracy_after": one.right(one.after) / images,
        "agreement": one.agreement(),
        "largest_change": float(np.abs(one.after - one.before).max()),
    }


def _publish(
    store: Store,
    choice: Choice,
    made: Sequence[tuple[Card, MadeHead, dict[str, Any]]],
    backbone: MadeBackbone,
) -> list[Card]:
    """Prepares the folders of all versions before it publishes the first."""
    with contextlib.ExitStack() as stack:
        ready = []
        for card, head, cost in made:
            folder = stack.enter_context(staged(store.root))
            _link(store.source_of(card), folder)
            files: dict[str, str] = {}
            for graph, place in ((backbone.graph, BACKBONE), (head.graph, HEAD)):
                if graph:
                    (folder / place).mkdir(exist_ok=True)
                    ov.save_model(graph, folder / place / NETWORK, compress_to_fp16=False)
                    written = sorted((folder / place).glob("network.*"))
                    files |= {str(file.relative_to(folder)): sha256_of(file) for file in written}
            changed = _card(card, choice, backbone, head, cost | {"files": files})
            ready.append((folder, changed))
        return [publish_version(store, folder, card) for folder, card in ready]


def _link(source: Path, folder: Path) -> None:
    """Puts the source into a folder, as links to its files where the disk has such links."""
    for file in source.rglob("*") if source.is_dir() else (source,):
        if file.is_file():
            target = folder / file.relative_to(source.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.hardlink_to(file)
            except OSError:
                shutil.copyfile(file, target)


def _card(
    card: Card, choice: Choice, backbone: MadeBackbone, head: MadeHead, cost: dict[str, Any]
) -> Card:
    """The float32 head's card with what is new about it, and without its training scores.

    Its golden answer stays that of Keras, except on an int8 backbone.
    """
    quantization = Quantization(
        source_head=card.head,
        source_version=card.version,
        built_with=int8.BUILT_WITH if cost["files"] else f"openvino {ov.__version__}",
        weight_bytes=backbone.weight_bytes,
        images_calibration=backbone.images_calibration,
        **cost,
    )
    answer = _answer(card, backbone.network, head.network) if backbone.graph else card.golden
    # The tolerance is for lower precision, and still rejects wrong answers of any confidence.
    tolerance = min(GOLDEN_TOLERANCE, max(answer.probabilities) / 2)
    changes = {
        "head": choice.name_of(card.head),
        "created": datetime.now(UTC),
        "backbone": card.backbone.model_copy(update={"digest": backbone.digest}),
        "structure": head.structure,
        "precision": choice.precision,
        "head_weights": choice.head_weights,
        "training": None,
        "quantization": quantization,
        "golden": answer.model_copy(update={"tolerance": tolerance}),
    }
    return card.model_copy(update=changes)


def _answer(card: Card, backbone: Network, head: Network) -> Golden:
    """The answer on an int8 backbone, as it is here."""
    files = golden.candidates()
    return golden.choose_golden(files, head(backbone(golden.decoded(files, card.input))))
