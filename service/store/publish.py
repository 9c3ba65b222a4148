"""Writes to a store with an atomic rename of a filled folder, so that readers never see half of it."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from service.store.card import Card
from service.store.layout import CARD, MANIFEST, Manifest, NotCompiled, Store, sha256_of

STAGING = ".staging-"


@contextlib.contextmanager
def staged(parent: Path, prefix: str = STAGING) -> Iterator[Path]:
    """Yields an empty folder on the file system of `parent`, and deletes it unless it was renamed."""
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as outer:
        # The outer folder is private (0700); what is published must have ordinary permissions.
        folder = Path(outer) / "content"
        folder.mkdir()
        yield folder


def check_writable(folder: Path) -> None:
    """Raises OSError if `folder` cannot be written, before the work whose result would be lost.

    A folder that is not there yet is made, and removed again.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    with staged(folder):
        pass
    with contextlib.suppress(OSError):  # Another process may be writing there by now.
        for one in missing:
            one.rmdir()


def publish_version(store: Store, folder: Path, card: Card) -> Card:
    """Renames a staged folder to the newest version of the card's head; returns the numbered card."""
    number = max(store.versions(card.head), default=0)
    while True:
        number += 1
        numbered = card.model_copy(update={"version": number})
        (folder / CARD).write_text(numbered.model_dump_json(indent=1), "utf-8")
        target = store.folder(card.head, number)
        _flush(folder)
        try:
            target.parent.mkdir(exist_ok=True)
            folder.rename(target)
        except OSError as exc:
            if target.exists() or _is_removed(exc, target.parent, folder):
                continue  # Another process took the number, or removed the head just now.
            raise
        return numbered


def _is_removed(exc: OSError, home: Path, folder: Path) -> bool:
    """Whether a folder could not be made or renamed because `home`, of its head, went away meanwhile."""
    is_missing = isinstance(exc, FileNotFoundError | FileExistsError)  # mkdir raises the latter.
    return is_missing and folder.exists() and (home.is_dir() or not os.path.lexists(home))


def publish_compiled(store: Store, digest: str, engine: str, folder: Path, built_with: str) -> None:
    """Renames a staged folder to the compiled files of a network, in place of damaged ones."""
    files = {path.name: sha256_of(path) for path in folder.iterdir()}
    (folder / MANIFEST).write_text(
        Manifest(files=files, built_with=built_with).model_dump_json(indent=1)
    )
    target = store.derived_root() / digest / engine
    target.parent.mkdir(parents=True, exist_ok=True)
    _flush(folder)
    try:
        folder.rename(target)
    except OSError:
        with contextlib.suppress(NotCompiled):
            store.compiled(digest, engine)
            return  # Another process has published them meanwhile.
        with contextlib.suppress(FileNotFoundError):
            target.rename(folder.parent / "replaced")
        folder.rename(target)


def publish_report(store: Store, host: str, text: str) -> None:
    """Writes `text` as the last benchmark report of a host."""
    target = store.report(host)
    with staged(target.parent) as folder:
        file = folder / target.name
        file.write_text(text, "utf-8")
        _flush(folder)
        file.replace(target)


def _flush(folder: Path) -> None:
    """Flushes the files to disk (fsync) before the rename that makes them visible."""
    for path in (*folder.rglob("*"), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
