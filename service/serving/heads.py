"""What is loaded: opens the versions of a store, and knows why the others stay out.

What is on disk is the store's; how requests reach a head is the batcher's.
"""

import logging
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from service.errors import HeadUnavailable, ImageError, NotReady, ServiceError, UnknownHead, VersionError
from service.serving import image
from service.serving.engines import Engine, EngineName, HeadNetwork, Network
from service.store.card import Card, Input
from service.store.layout import NotCompiled, Store

log = logging.getLogger(__name__)

GOLDEN_MAX_PIXELS = 4_000_000
MAX_REASON = 300
LOADING = "Heads are still loading."

Rebuild = Callable[[Store, str, int, EngineName], None]


@dataclass(frozen=True, eq=False)
class LoadedBackbone:
    """A backbone that is warm; heads whose digest and input are equal hold the same object."""

    digest: str
    input: Input
    network: Network


@dataclass(frozen=True, eq=False)
class LoadedHead:
    """One version that passed its golden check and is warm."""

    card: Card
    backbone: LoadedBackbone
    network: HeadNetwork


@dataclass
class HeadStatus:
    """One head of the store: the version that serves, and why newer ones do not."""

    versions: list[int]
    serving: LoadedHead | None = None
    failures: dict[int, str] = field(default_factory=dict)

    def reason(self) -> str:
        """Why no version serves, as one sentence."""
        return "; ".join(f"version {number}: {why}" for number, why in self.failures.items())


class Heads:
    """The heads of one store on one engine. Loaded once, in any thread; read from all."""

    def __init__(
        self, store: Store, open_engine: Callable[[], Engine], max_batch_size: int, rebuild: Rebuild
    ) -> None:
        self._store = store
        self._open_engine = open_engine
        self._max_batch_size = max_batch_size
        self._rebuild = rebuild
        self._backbones: dict[tuple[str, Input], LoadedBackbone] = {}
        self.statuses: dict[str, HeadStatus] = {}
        self.engine_name: EngineName | None = None
        self.is_loading = True
        self.trouble: str | None = None

    def load(self) -> None:
        """Opens the newest good version of each head; nothing is served before all are tried."""
        try:
            engine = self._open_engine()
            statuses = {head: self._load_head(engine, head) for head in self._store.heads()}
            self.engine_name, self.statuses = engine.name, statuses
        except Exception as exc:
            self.trouble = f"Heads could not be loaded: {_reason(exc)}"
            raise
        finally:
            self.is_loading = False

    def get(self, name: str) -> LoadedHead:
        """The head of that name. Raises UnknownHead, HeadUnavailable, or NotReady."""
        if self.is_loading or self.trouble:
            raise NotReady(self.trouble or LOADING)
        status = self.statuses.get(name)
        if status is None:
            raise UnknownHead(name, sorted(self.statuses))
        if status.serving is None:
            raise HeadUnavailable(name, status.reason())
        return status.serving

    def serving(self) -> dict[str, LoadedHead]:
        """The heads that can answer, by name."""
        return {name: status.serving for name, status in self.statuses.items() if status.serving}

    def missing(self, required: tuple[str, ...]) -> list[str]:
        """Why the service is not ready, a sentence each: every required head, or any one, must serve."""
        if self.is_loading or self.trouble:
            return [self.trouble or LOADING]
        if not self.statuses:
            return ["The store is empty; fill it with: resnet-heads init"]
        reasons = {name: status.reason() for name, status in self.statuses.items() if not status.serving}
        if not required:
            return [] if self.serving() else [f"{name}: {why}" for name, why in reasons.items()]
        absent = {name: "it is not in the store" for name in required if name not in self.statuses}
        return [f"{name}: {why}" for name, why in (reasons | absent).items() if name in required]

    def _load_head(self, engine: Engine, head: str) -> HeadStatus:
        status = HeadStatus(self._store.versions(head))
        for version in status.versions:
            try:
                status.serving = self._load_version(engine, head, version)
            except Exception as exc:  # whatever its files make an engine stumble on
                status.failures[version] = reason = _reason(exc)
                log.error("head %s version %d stays out: %s", head, version, reason)
            else:
                log.info("head %s version %d serves on %s", head, version, engine.name)
                break
        return status

    def _load_version(self, engine: Engine, head: str, version: int) -> LoadedHead:
        card = self._store.read_card(head, version)
        key = (card.backbone.digest, card.input)
        backbone = self._backbones.get(key) or LoadedBackbone(
            *key, engine.open(self._find(engine, card, self._store.backbone_of))
        )
        network = engine.open_head(self._find(engine, card, self._store.head_of))
        loaded = LoadedHead(card, backbone, network)
        check_golden(loaded)
        if key not in self._backbones:
            pixels = (card.input.height, card.input.width, 3)
            warm(backbone.network, batch_sizes(self._max_batch_size), pixels, np.uint8)
            self._backbones[key] = backbone
        rows = range(1, self._max_batch_size + 1)  # of a batch that other heads share
        warm(loaded.network, rows, card.backbone.feature_shape, np.float32)
        return loaded

    def _find(self, engine: Engine, card: Card, find: Callable[[Card, EngineName], Path]) -> Path:
        try:
            return find(card, engine.name)
        except NotCompiled as exc:
            log.warning("head %s version %d: %s; compiling it", card.head, card.version, exc)
            self._rebuild(self._store, card.head, card.version, engine.name)
            return find(card, engine.name)


def _reason(exc: Exception) -> str:
    """What was raised on purpose speaks for itself; of anything else, one line."""
    if isinstance(exc, ServiceError):
        return str(exc)
    return textwrap.shorten(f"{type(exc).__name__}: {exc}", MAX_REASON)


def check_golden(head: LoadedHead) -> None:
    """Raises VersionError when the golden image's probabilities are not the recorded ones."""
    golden = head.card.golden
    try:
        pixels = image.decode(golden.image, head.card.input, GOLDEN_MAX_PIXELS)
    except ImageError as exc:
        raise VersionError(f"golden check: its image cannot be read: {exc.reason}") from exc
    answer = head.network(head.backbone.network(pixels[np.newaxis]))[0]
    expected = np.asarray(golden.probabilities)
    if answer.shape != expected.shape:
        raise VersionError(f"golden check: {answer.size} probabilities for {expected.size} labels.")
    difference = float(np.abs(answer - expected).max())
    if not difference <= golden.tolerance:
        raise VersionError(
            f"golden check: probabilities differ from the card's by {difference:.2g}, "
            f"more than {golden.tolerance:g}."
        )


def batch_sizes(largest: int) -> list[int]:
    """The sizes of a backbone's batches: powers of two below `largest`, and that.

    An image takes about as long in a batch of 4 as in one of 5, while each size costs a warm-up at
    every start and memory for good.
    """
    return [*(2**power for power in range((largest - 1).bit_length())), largest]


def warm(
    network: Network, sizes: Iterable[int], shape: tuple[int, ...], dtype: type[np.generic]
) -> None:
    """Calls a network once with every batch size it will meet: the first call of each is slow."""
    for size in sizes:
        network(np.zeros((size, *shape), dtype))
