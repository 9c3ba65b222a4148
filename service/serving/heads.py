"""Knows which versions of a store are loaded, which of them serve, and why others are not loaded.

layout.py reads the store, loading.py opens one version, and batcher.py computes requests.
"""

import logging
import textwrap
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from service.errors import (
    GoldenCheckFailed,
    HeadUnavailable,
    NotReady,
    ServiceError,
    UnknownHead,
    UnknownVersion,
    is_transient,
)
from service.serving.capacity import STOPPING
from service.serving.engines import EngineName
from service.serving.loading import LoadedHead, Loader
from service.store.layout import Stamp, Store

log = logging.getLogger(__name__)

MAX_REASON = 300
LOADING = "Heads are still loading."


@dataclass(frozen=True)
class HeadStatus:
    """One head of the store: its serving version, its loaded versions, and the errors of the others.

    `golden_failures` are the versions in `failures` that failed their golden check.
    """

    versions: list[int]
    serving: LoadedHead | None = None
    failures: dict[int, str] = field(default_factory=dict)
    loaded: dict[int, LoadedHead] = field(default_factory=dict)
    golden_failures: set[int] = field(default_factory=set)

    def reason(self) -> str:
        """Why no version serves: the reasons of all versions, joined by semicolons."""
        return "; ".join(f"version {number}: {why}" for number, why in self.failures.items())


@dataclass(frozen=True)
class Tried:
    """The result of opening a version with files of this stamp.

    Both `head` and `failure` are set if it was loaded before its files were damaged.
    """

    stamp: Stamp
    head: LoadedHead | None
    failure: str | None
    is_golden_failure: bool = False
    is_transient: bool = False


class Heads:
    """The heads of one store on one engine. One thread loads and refreshes them; all threads read them.

    `open_loader` opens the engine, which takes long and may fail: that thread calls it. Of each head the
    newest `kept_versions` good versions are loaded, and the `pinned` one, which then serves instead of
    the newest. Once `stopping` is set, no other version is opened.
    """

    def __init__(
        self,
        store: Store,
        open_loader: Callable[[], Loader],
        *,
        kept_versions: int = 1,
        pinned: Mapping[str, int] | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        self._store = store
        self._open_loader = open_loader
        self._kept_versions = kept_versions
        self._pinned = pinned or {}
        self._stopping = stopping or threading.Event()
        self._loader: Loader | None = None
        self._tried: dict[tuple[str, int], Tried] = {}
        self.statuses: dict[str, HeadStatus] = {}
        self.engine_name: EngineName | None = None
        self.is_loading = True
        self.trouble: str | None = None

    def load(self) -> None:
        """Opens the newest good versions of each head; none serves before all were tried.

        They serve single images first, and larger batches after `warm_up`. After any error no head
        serves, and `refresh` starts from the beginning.
        """
        try:
            self._loader = loader = self._loader or self._open_loader()
            self.statuses = {head: self._load_head(loader, head) for head in self._store.heads()}
            self.engine_name, self.trouble = loader.engine.name, None
            self._forget_unused(loader)
        except Exception as exc:
            self.trouble = f"Heads could not be loaded: {_reason(exc)}"
            raise
        finally:
            self.is_loading = False

    def refresh(self) -> bool:
        """Loads new versions, unloads deleted ones, and returns whether anything changed.

        Each head is replaced atomically, once all its new versions were tried; a running request keeps
        its version. If the store has no heads nothing changes, because its volume is probably not
        mounted.
        """
        if self._loader is None or not self.has_loaded():
            self.load()
            return True
        heads, before = self._store.heads(), self.statuses
        if not heads:
            return False
        for head in heads:
            self.statuses = self.statuses | {head: self._load_head(self._loader, head)}
        self.statuses = {head: self.statuses[head] for head in heads}
        self._forget_unused(self._loader)
        return self.statuses != before

    def warm_up(self) -> None:
        """Warms larger batches of the heads that serve since `load`."""
        loaded = [head for status in self.statuses.values() for head in status.loaded.values()]
        if self._loader and loaded:
            self._loader.warm_up(loaded, self._stopping)

    def has_loaded(self) -> bool:
        """Whether every head was tried, so that each request gets an answer or a final refusal."""
        return not (self.is_loading or self.trouble)

    def has_transient_failure(self) -> bool:
        """Whether a version failed with an error that may pass without a change of the store."""
        return self.trouble is not None or any(tried.is_transient for tried in self._tried.values())

    def get(self, name: str, version: int | None = None) -> LoadedHead:
        """The named head, in its serving version or in a loaded `version`.

        Raises UnknownHead, UnknownVersion, HeadUnavailable, or NotReady.
        """
        if not self.has_loaded():
            raise NotReady(self.trouble or LOADING)
        statuses = self.statuses
        status = statuses.get(name)
        if status is None:
            raise UnknownHead(name, sorted(statuses))
        if version is not None and version not in status.loaded:
            raise UnknownVersion(name, version, sorted(status.loaded))
        found = status.serving if version is None else status.loaded[version]
        if found is None:
            raise HeadUnavailable(name, status.reason())
        return found

    def serving(self) -> dict[str, LoadedHead]:
        """The heads that can answer, by name."""
        return {name: status.serving for name, status in self.statuses.items() if status.serving}

    def missing(self, required: tuple[str, ...]) -> list[str]:
        """The reasons why the service is not ready: `required` heads, or else any one, must serve."""
        if not self.has_loaded():
            return [self.trouble or LOADING]
        if not self.statuses:
            return ["The store is empty; fill it with: resnet-heads init"]
        reasons = {name: status.reason() for name, status in self.statuses.items() if not status.serving}
        if not required:
            return [] if self.serving() else [f"{name}: {why}" for name, why in reasons.items()]
        absent = {name: "it is not in the store" for name in required if name not in self.statuses}
        return [f"{name}: {why}" for name, why in (reasons | absent).items() if name in required]

    def _forget_unused(self, loader: Loader) -> None:
        told = {
            (head, version)
            for head, status in self.statuses.items()
            for version in (*status.loaded, *status.failures)
        }
        self._tried = {key: tried for key, tried in self._tried.items() if key in told}
        loader.keep(tried.head for tried in self._tried.values() if tried.head)

    def _load_head(self, loader: Loader, head: str) -> HeadStatus:
        versions, pinned = self._store.versions(head), self._pinned.get(head)
        loaded: dict[int, LoadedHead] = {}
        failures: dict[int, str] = {}
        golden: set[int] = set()
        # Try the pinned version first, so that newer ones cannot take its place.
        for version in sorted(versions, key=lambda number: (number != pinned, -number)):
            if len(loaded) == self._kept_versions + (pinned in loaded):
                break
            tried = self._tried[head, version] = self._try(loader, head, version)
            if tried.head:
                loaded[version] = tried.head
            if tried.failure:
                failures[version] = tried.failure
            if tried.is_golden_failure:
                golden.add(version)
        serving = loaded.get(pinned or 0) or loaded.get(max(loaded, default=0))
        return HeadStatus(versions, serving, failures, loaded, golden)

    def _try(self, loader: Loader, head: str, version: int) -> Tried:
        """Opens a version, or returns its earlier result if that would be the same."""
        if self._stopping.is_set():
            raise NotReady(STOPPING)
        known, engine = self._tried.get((head, version)), loader.engine.name
        if known and not known.is_transient:
            # A version may have failed because of any of its files.
            of_files = engine if known.failure else None
            if known.stamp == self._store.stamp(head, version, of_files):
                return known
        # Stamp the files before they are opened: a change meanwhile is then noticed.
        of_card, of_all = self._store.stamp(head, version), self._store.stamp(head, version, engine)
        try:
            loaded = loader.load(head, version)
            if self.has_loaded():  # Others serve: this one waits until it is as fast.
                loader.warm_up([loaded], self._stopping)
        except Exception as exc:  # Broken files may make an engine raise anything.
            if self._stopping.is_set():
                raise
            failed = Tried(
                of_all,
                known.head if known else None,
                _reason(exc),
                isinstance(exc, GoldenCheckFailed),
                is_transient(exc),
            )
            if not (known and known.is_transient and known.failure == failed.failure):
                log.error("head %s version %d stays out: %s", head, version, failed.failure)
            return failed
        log.info("head %s version %d is loaded on %s", head, version, engine)
        return Tried(of_card, loaded, None)


def _reason(exc: Exception) -> str:
    """The text of this service's own errors; one shortened line for any other error."""
    if isinstance(exc, ServiceError):
        return str(exc)
    return textwrap.shorten(f"{type(exc).__name__}: {exc}", MAX_REASON)
