"""Stores of fake heads on disk, and the heads that are loaded from a store."""

import errno
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from fakes import FakeEngine, publish, publish_network
from process import run

from service.errors import VersionError
from service.serving.engine_lock import EngineLock
from service.serving.engines import Engine, open_engine
from service.serving.heads import Heads
from service.serving.loading import Loader, Rebuild
from service.store.layout import Store

BACKBONE, HEAD = "b" * 64, "e" * 64  # the digests in the cards of fakes


def empty(folder: Path) -> Store:
    """A store without heads."""
    store = Store(folder / "store", folder / "cache")
    store.root.mkdir()
    return store


def filled(folder: Path, *names: str) -> Store:
    """A store of version 1 of each named head, all on one backbone, with fake compiled files."""
    store = empty(folder)
    publish_compiled_files(store)
    for name in names:
        publish(store, name)
    return store


def publish_compiled_files(store: Store, engine: str = "openvino") -> None:
    """What the cards of fakes need on an engine: files that no real one could open."""
    for digest in (BACKBONE, HEAD):
        publish_network(store, digest, engine=engine)


def no_tensorflow(_: Store, head: str, version: int, engine: str) -> None:
    """Rebuilds nothing."""
    raise VersionError(f"run: compile {head} {version} {engine}")


def heads_of(
    store: Store,
    open_engine: Callable[[], Engine] = FakeEngine,
    rebuild: Rebuild = no_tensorflow,
    max_batch_size: int = 4,
    engine_lock: EngineLock | None = None,
    **wishes,
) -> Heads:
    """The heads of a store, not loaded yet; `wishes` are further arguments of Heads."""

    def open_loader() -> Loader:
        return Loader(store, open_engine(), max_batch_size, rebuild, engine_lock or EngineLock())

    return Heads(store, open_loader, **wishes)


def load(store: Store, engine: Engine | None = None, *args, **wishes) -> Heads:
    """The heads of a store, loaded on an engine or else on a fake one; arguments as of `heads_of`."""
    heads = heads_of(store, lambda: engine or FakeEngine(), *args, **wishes)
    heads.load()
    return heads


def after(*errors: Exception) -> Callable[[], Engine]:
    """Opens a fake engine, once it has raised each of these errors in turn."""
    left = list(errors)

    def open_engine() -> Engine:
        if left:
            raise left.pop(0)
        return FakeEngine()

    return open_engine


def load_real(store: Store, rebuild: Rebuild = no_tensorflow) -> Heads:
    """The heads of a store with real compiled files, loaded on OpenVINO."""
    return load(store, open_engine("openvino", 2), rebuild, max_batch_size=2)


def quantized(store: Store, folder: Path, *words: str) -> tuple[Store, subprocess.CompletedProcess]:
    """A copy of a store on which `quantize` worked, and what it said."""
    copy = Store(folder / "store", folder / "cache")
    shutil.copytree(store.root, copy.root)
    return copy, run("quantize", *words, "--store-dir", str(copy.root))


def load_on_keras(store: Store, *compiled: str) -> Heads:
    """The heads of a store on the keras engine, for which version 1 of these heads is compiled first."""
    from service.lab.models.recompile import recompile  # for the tests that may import TensorFlow

    for head in compiled:
        recompile(store, head, 1, "keras")
    return load(store, open_engine("keras", 2))


def serving(heads: Heads) -> dict[str, int]:
    """The version that serves, by head."""
    return {name: one.card.version for name, one in heads.serving().items()}


def failures(heads: Heads) -> dict[str, dict[int, str]]:
    """The versions that stay out with their reasons, by head."""
    return {name: status.failures for name, status in heads.statuses.items() if status.failures}


def io_error() -> OSError:
    """What a disk says that cannot be read at the moment."""
    return OSError(errno.EIO, "Input/output error")
