"""Takes versions out of a store, and the compiled files that no other version uses."""

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import CommandError, reason_of
from service.store.layout import CARD, COMPILED, MAX_TEXT_BYTES, Store
from service.store.publish import STAGING, staged

REMOVING = ".removing-"
DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True)
class Removal:
    """What was taken out: version numbers, newest first, and bytes; `notes` say what stays, and why."""

    versions: tuple[int, ...]
    version_bytes: int
    compiled_bytes: int
    notes: tuple[str, ...]


def remove(store: Store, head: str, versions: Sequence[int]) -> Removal:
    """Removes versions of a head, oldest first, and the head's folder once it is empty.

    Each is renamed out of sight before anything of it is deleted, so that readers see it whole or not
    at all. Compiled files in the cache folder stay, because other stores may use them. Raises
    CommandError when no version could be removed.
    """
    home = store.root / head
    if not os.access(store.root, os.W_OK):
        raise CommandError(
            f"The store {store.root} is read-only; remove {head} where it can be written."
        )
    if home.is_symlink():
        raise CommandError(f"{home} is a link to another folder; remove the link, or what it leads to.")
    with staged(store.root, REMOVING) as folder:
        gone, failures = [], []
        for version in sorted(versions):
            try:
                store.folder(head, version).rename(folder / str(version))
                gone.append(version)
            except OSError as exc:  # Also where another process was faster.
                failures.append(f"{head} version {version} cannot be removed: {reason_of(exc)}.")
        if not gone:
            raise CommandError(failures[0])
        version_bytes = _bytes(folder)
        notes = [*failures, *_take_compiled(store, folder, [folder / str(version) for version in gone])]
        notes += _leave_home(store, head)
        compiled_bytes = _bytes(folder) - version_bytes
    return Removal(tuple(reversed(gone)), version_bytes, compiled_bytes, tuple(notes))


def _take_compiled(store: Store, folder: Path, removed: Sequence[Path]) -> list[str]:
    """Moves compiled files that only the removed versions use to `folder`. Returns why some stay."""
    if at_work := sorted(path.name for path in store.root.glob(f"{STAGING}*")):
        # What is being published may use them, and has no card yet.
        return [f"Compiled files stay: something is being published in {at_work[0]}, or was cut off."]
    try:
        used = [
            _digests(store.folder(head, version))
            for head in store.heads()
            for version in store.versions(head)
        ]
        for digest in set().union(*map(_digests, removed)).difference(*used):
            with contextlib.suppress(FileNotFoundError):
                (store.root / COMPILED / digest).rename(folder / digest)
    except OSError as exc:
        return [f"Compiled files stay: {exc.filename}: {reason_of(exc)}."]
    return []


def _digests(folder: Path) -> set[str]:
    """Every digest in the text of a version's card, also of a damaged one, or one of a newer release."""
    if not (folder / CARD).is_file():
        return set()
    with (folder / CARD).open("rb") as file:
        return {digest.decode() for digest in DIGEST.findall(file.read(MAX_TEXT_BYTES))}


def _leave_home(store: Store, head: str) -> list[str]:
    """Removes the folder of a head if it is empty. Returns what a person should know of the rest."""
    home = store.root / head
    with contextlib.suppress(OSError):
        home.rmdir()
    if not store.heads():
        return ["The store is empty now: a server that runs goes on with the heads that it has loaded."]
    if home.is_dir() and not store.versions(head):
        return [f"{home} stays: it holds something else than versions."]
    return []


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
