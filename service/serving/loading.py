"""Opens one version of a head: checks its compiled files, runs its golden check and warms it up."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from service.errors import GoldenCheckFailed, ImageError, is_transient
from service.serving.engine_lock import EngineLock
from service.serving.engines import BackboneNetwork, Engine, EngineName, HeadNetwork, Network
from service.serving.pixels import decode
from service.store.card import Card, Input
from service.store.layout import NotCompiled, Store

log = logging.getLogger(__name__)

GOLDEN_MAX_PIXELS = 4_000_000

Rebuild = Callable[[Store, str, int, EngineName], None]
Key = tuple[str, Input]
N = TypeVar("N", bound=Network)


@dataclass(frozen=True, eq=False)
class LoadedBackbone:
    """A warmed-up backbone; heads whose digest and input are equal share one object."""

    digest: str
    input: Input
    network: BackboneNetwork


@dataclass(frozen=True, eq=False)
class LoadedHead:
    """One version that passed its golden check and is warmed up."""

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
        """Opens a version, checks its golden image and warms it up.

        Raises VersionError, or any error of an engine on bad files.
        """
        card = self._store.card(head, version)
        key = (card.backbone.digest, card.input)
        backbone = self._backbones.get(key)
        if backbone:
            # An int8 graph is a source that cannot be rebuilt, so a version without it must not serve.
            self._store.check_graph(card)
        else:
            backbone = LoadedBackbone(*key, self._open(card, self._store.backbone_of, self.engine.open))
        network = self._open(card, self._store.head_of, self.engine.open_head)
        loaded = LoadedHead(card, backbone, network)
        check_golden(loaded, self._engine_lock)
        if key not in self._backbones:
            pixels = (card.input.height, card.input.width, 3)
            warm(
                backbone.network, batch_sizes(self._max_batch_size), pixels, np.uint8, self._engine_lock
            )
            self._backbones[key] = backbone
        # A head may get any part of a batch that other heads share.
        rows = range(1, self._max_batch_size + 1)
        warm(loaded.network, rows, card.backbone.feature_shape, np.float32, self._engine_lock)
        return loaded

    def keep(self, heads: Iterable[LoadedHead]) -> None:
        """Forgets backbones that none of `heads` uses. Jobs that still need one hold a reference."""
        used = {head.backbone for head in heads}
        self._backbones = {key: one for key, one in self._backbones.items() if one in used}

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


def check_golden(head: LoadedHead, engine_lock: EngineLock) -> None:
    """Raises GoldenCheckFailed when the golden image's probabilities are not the recorded ones."""
    golden = head.card.golden
    try:
        pixels = decode.decode(golden.image, head.card.input, GOLDEN_MAX_PIXELS)
    except ImageError as exc:
        raise GoldenCheckFailed(f"its image cannot be read: {exc.reason}") from exc
    # Use a copy of the network, because other heads may be computing with this one.
    backbone = head.backbone.network.another()
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


def warm(
    network: Network,
    sizes: Iterable[int],
    shape: tuple[int, ...],
    dtype: type[np.generic],
    engine_lock: EngineLock,
) -> None:
    """Calls a network once with every batch size, because the first call with each is slow."""
    for size in sizes:
        with engine_lock:
            network(np.zeros((size, *shape), dtype))
        engine_lock.let_others()
