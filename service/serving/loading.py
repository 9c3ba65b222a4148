"""Opens one version of a head: checks its compiled files, runs its golden check and warms it up.

The first call with each batch size is slow, and counts as warming.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from service.errors import GoldenCheckFailed, ImageError, is_transient
from service.serving.engine_lock import EngineLock
from service.serving.engines import BackboneNetwork, Engine, EngineName, HeadNetwork, Network
from service.serving.pixels import decode
from service.store.card import Card, Input, Precision
from service.store.layout import NotCompiled, Store

log = logging.getLogger(__name__)

GOLDEN_MAX_PIXELS = 4_000_000
SLOWER = "head %s version %d: this processor has no %s; it computes in %s, and is no faster for it"

Rebuild = Callable[[Store, str, int, EngineName], None]
Key = tuple[str, Input, Precision]
N = TypeVar("N", bound=Network)


@dataclass(frozen=True, eq=False)
class LoadedBackbone:
    """A backbone that is warm for batches of `warm_sizes` images, which grow while it serves.

    Heads share one object where its digest, its input and what it computes in are equal.
    """

    digest: str
    input: Input
    computes_in: Precision
    network: BackboneNetwork
    warm_sizes: list[int] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class LoadedHead:
    """One version that passed its golden check. It is warm for every part of its backbone's batches."""

    card: Card
    backbone: LoadedBackbone
    network: HeadNetwork


class Loader:
    """Opens versions of one store on one engine. Not thread-safe."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        max_batch_size: int,
        rebuild: Rebuild,
        engine_lock: EngineLock,
    ) -> None:
        self.engine = engine
        self._engine_lock = engine_lock
        self._store = store
        self._max_batch_size = max_batch_size
        self._rebuild = rebuild
        self._backbones: dict[Key, LoadedBackbone] = {}
        # Versions that are being rebuilt, or whose rebuild has failed.
        self._rebuilding: set[tuple[str, int]] = set()

    def load(self, head: str, version: int) -> LoadedHead:
        """Opens a version, checks its golden image and warms it up for what its backbone is warm for.

        That is one image, if no head has used the backbone yet.

        Raises VersionError, or any error of an engine on bad files.
        """
        card = self._store.card(head, version)
        precision = self.engine.computes_in(card.precision)
        if precision != card.precision:
            log.warning(SLOWER, head, version, card.precision, precision)
        key = (card.backbone.digest, card.input, precision)
        backbone = self._backbones.get(key)
        if backbone:
            # An int8 graph is a source that cannot be rebuilt, so a version without it must not serve.
            self._store.check_graph(card)
        else:
            open_backbone = partial(self.engine.open, precision=precision)
            backbone = LoadedBackbone(*key, self._open(card, self._store.backbone_of, open_backbone))
        network = self._open(card, self._store.head_of, self.engine.open_head)
        loaded = LoadedHead(card, backbone, network)
        if key in self._backbones:
            # Other heads may be computing with this network, but not with a copy.
            check_golden(loaded, backbone.network.another(), self._engine_lock)
            self._warm_head(loaded, range(2, backbone.warm_sizes[-1] + 1))
        else:
            check_golden(loaded, backbone.network, self._engine_lock)
            backbone.warm_sizes.append(1)
            self._backbones[key] = backbone
        return loaded

    def warm_up(self, heads: Collection[LoadedHead], stopping: threading.Event) -> None:
        """Warms all batch sizes of these heads' backbones, one after the other, between served batches.

        Ends early once `stopping` is set.
        """
        todo = [
            (backbone, size)
            for backbone in dict.fromkeys(head.backbone for head in heads)
            for size in batch_sizes(self._max_batch_size)
            if size > backbone.warm_sizes[-1]
        ]
        for backbone, size in todo:
            if stopping.is_set():
                break
            self._warm(backbone, [head for head in heads if head.backbone is backbone], size)

    def keep(self, heads: Iterable[LoadedHead]) -> None:
        """Forgets backbones that none of `heads` uses. Jobs that still need one hold a reference."""
        used = {head.backbone for head in heads}
        self._backbones = {key: one for key, one in self._backbones.items() if one in used}

    def _warm(self, backbone: LoadedBackbone, heads: Iterable[LoadedHead], size: int) -> None:
        """Warms a backbone for batches of `size`, and its heads for any part of such a batch."""
        for head in heads:
            self._warm_head(head, range(backbone.warm_sizes[-1] + 1, size + 1))
        spec = backbone.input
        self._call(backbone.network, np.zeros((size, spec.height, spec.width, 3), np.uint8))
        backbone.warm_sizes.append(size)

    def _warm_head(self, head: LoadedHead, rows: Iterable[int]) -> None:
        for count in rows:
            features = np.zeros((count, *head.card.backbone.feature_shape), np.float32)
            self._call(head.network, features)

    def _call(self, network: Network, batch: NDArray[np.generic]) -> None:
        with self._engine_lock:
            network(batch)
        self._engine_lock.let_others()

    def _open(self, card: Card, find: Callable[[Card, EngineName], Path], by: Callable[[Path], N]) -> N:
        folder = self._find(card, find)
        with self._engine_lock:
            opened = by(folder)
        self._engine_lock.let_others()
        return opened

    def _find(self, card: Card, find: Callable[[Card, EngineName], Path]) -> Path:
        try:
            return find(card, self.engine.name)
        except NotCompiled as exc:
            if is_transient(exc):
                raise  # The files may be good, so do not rebuild them.
            version = (card.head, card.version)
            if version not in self._rebuilding:
                log.warning("head %s version %d: %s; compiling it", *version, exc)
            self._rebuilding.add(version)
            self._rebuild(self._store, *version, self.engine.name)
            self._rebuilding.discard(version)
            return find(card, self.engine.name)


def check_golden(head: LoadedHead, backbone: Network, engine_lock: EngineLock) -> None:
    """Raises GoldenCheckFailed when the golden image's probabilities are not the recorded ones.

    It warms `backbone`, which is the head's own or a copy of it, and the head for single images.
    """
    golden = head.card.golden
    try:
        pixels = decode.decode(golden.image, head.card.input, GOLDEN_MAX_PIXELS)
    except ImageError as exc:
        raise GoldenCheckFailed(f"its image cannot be read: {exc.reason}") from exc
    with engine_lock:
        answer = head.network(backbone(pixels[np.newaxis]))[0]
    engine_lock.let_others()
    expected = np.asarray(golden.probabilities)
    if answer.shape != expected.shape:
        raise GoldenCheckFailed(f"it computes {answer.size} probabilities for {expected.size} labels.")
    difference = float(np.abs(answer - expected).max())
    if not difference <= golden.tolerance:
        raise GoldenCheckFailed(
            f"probabilities differ from the card's by {difference:.2g}, more than {golden.tolerance:g}."
        )


def batch_sizes(largest: int) -> list[int]:
    """The batch sizes of a backbone: the powers of two below `largest`, and `largest`.

    A batch of 4 takes about as long for each image as one of 5, while each size costs a warm-up at every
    start and memory for good.
    """
    return [*(2**power for power in range((largest - 1).bit_length())), largest]
