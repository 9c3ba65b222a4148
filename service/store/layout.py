"""The paths in a store, and checked reads from them; publish.py writes.

<root>/<head>/<version>/{card.json,model.keras}           or model.h5, saved_model/; also int8 graphs
<root>/.compiled/<digest>/<engine>/{manifest.json,...}    derived; or below the cache folder
<root>/.benchmark/<host>.json                             measured; or below the cache folder
"""

import contextlib
import hashlib
import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from service.errors import VersionError, is_transient, reason_of
from service.store.card import HEAD_NAME, MAIN_FILE, Card, Sha256

MODEL = MAIN_FILE["keras"]
ARCHITECTURE = "architecture.json"  # Beside a model.h5 that holds weights alone.
CARD = "card.json"
MANIFEST = "manifest.json"
COMPILED = ".compiled"
BENCHMARK = ".benchmark"
BACKBONE, HEAD = "", "head"  # Where int8 graphs lie in a version's folder.
MAX_TEXT_BYTES = 2**24  # The largest card or manifest that is read.
VERSION = re.compile(r"[1-9][0-9]*")

Stamp = tuple[tuple[int, int] | None, ...]


class Manifest(BaseModel):
    """The list of compiled files: the sha256 of each, and the library that wrote them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: dict[str, Sha256]
    built_with: str


class NotCompiled(VersionError):
    """Compiled files are missing, damaged or unreadable; they can be rebuilt from the source."""


class NotForEngine(VersionError):
    """A version is asked for on an engine that cannot run it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"it is {what}, which only the openvino engine runs.")


def default_cache() -> Path:
    """The user's cache folder, by the XDG convention."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "resnet-heads"


@dataclass(frozen=True)
class Store:
    """The folder `root`; if that is read-only, derived files are written below `cache`."""

    root: Path
    cache: Path

    def heads(self) -> list[str]:
        """The names of the heads that have at least one version folder, sorted."""
        return sorted(name for name in _folders(self.root, HEAD_NAME) if self.versions(name))

    def versions(self, head: str) -> list[int]:
        """The version numbers of a head, newest first; a version appears by an atomic rename."""
        return sorted(map(int, _folders(self.root / head, VERSION)), reverse=True)

    def folder(self, head: str, version: int) -> Path:
        """The folder of a version, which need not exist."""
        return self.root / head / str(version)

    def read_card(self, head: str, version: int) -> Card:
        """The card of a version whose source files have the recorded sha256.

        Raises VersionError as `card` does, or when a file of the source or an int8 graph is missing or
        has another sha256. Serving opens no source, and so it calls `card`.
        """
        card = self.card(head, version)
        self.source_of(card)
        self.check_graph(card)
        if card.head_weights == "int8":
            self._graph(card, HEAD)
        return card

    def card(self, head: str, version: int) -> Card:
        """The card of a version, whose other files are not checked.

        Raises VersionError when the card is missing, not valid or that of another version.
        """
        try:
            card = Card.model_validate_json(self._read(self.folder(head, version) / CARD))
        except OSError as exc:
            raise VersionError(f"{CARD} cannot be read: {reason_of(exc)}.") from exc
        except ValidationError as exc:
            first = exc.errors()[0]
            where = ".".join(map(str, first["loc"])) or "its JSON"
            raise VersionError(f"{CARD} is not valid at {where}: {first['msg']}.") from exc
        if (card.head, card.version) != (head, version):
            raise VersionError(f"{CARD} belongs to {card.head}/{card.version}.")
        return card

    def stamp(self, head: str, version: int, engine: str | None = None) -> Stamp:
        """A value that changes when the card of a version changes.

        With an engine it also changes with any other file in the version's folder or of its compiled
        files.
        """
        folder = self.folder(head, version)
        files = [folder / CARD]
        if engine:
            folders = [folder, folder / HEAD]
            with contextlib.suppress(VersionError):
                card = self.card(head, version)
                digests = (card.backbone.digest, card.structure.digest)
                roots = itertools.product((self.root, self.cache), digests)
                folders += [root / COMPILED / digest / engine for root, digest in roots]
            files += itertools.chain.from_iterable(map(_entries, folders))
        return tuple(stamp_of(file) for file in files)

    def source_of(self, card: Card) -> Path:
        """The path of a version's source: a file, or the folder of a SavedModel.

        Raises VersionError when a file of it is missing or damaged, or when a folder holds others.
        """
        folder = self.folder(card.head, card.version)
        for name, sha256 in card.source.files.items():
            self._check(folder / name, sha256)
        first = Path(MAIN_FILE[card.source.format]).parts[0]
        inside = (path for path in (folder / first).rglob("*") if not path.is_dir())
        if strange := {str(path.relative_to(folder)) for path in inside} - card.source.files.keys():
            raise VersionError(f"{min(strange)} is not in {CARD}.")
        return folder / first

    def backbone_of(self, card: Card, engine: str) -> Path:
        """The folder of a version's backbone for an engine, with each file checked.

        Raises NotCompiled, NotForEngine, or VersionError when an int8 graph is damaged, which cannot be
        rebuilt.
        """
        _check_engine(card, engine)
        if card.precision != "int8":
            return self.compiled(card.backbone.digest, engine)
        return self._graph(card, BACKBONE)

    def head_of(self, card: Card, engine: str) -> Path:
        """The folder of a version's head for an engine. Raises as `backbone_of` does."""
        _check_engine(card, engine)
        if card.head_weights == "f32":
            return self.compiled(card.structure.digest, engine)
        return self._graph(card, HEAD)

    def compiled(self, digest: str, engine: str) -> Path:
        """The folder of a network's compiled files, each checked against the manifest.

        Raises NotCompiled when no folder holds them all undamaged; its cause says what was wrong.
        """
        reason, cause = f"it is not compiled for {engine}", None
        for root in (self.root, self.cache):
            folder = root / COMPILED / digest / engine
            if not folder.is_dir():
                continue
            try:
                manifest = Manifest.model_validate_json(self._read(folder / MANIFEST))
                if strange := {path.name for path in folder.iterdir()} - {MANIFEST, *manifest.files}:
                    raise VersionError(f"{min(strange)} is not in {MANIFEST}.")
                for name, sha256 in manifest.files.items():
                    self._check(folder / name, sha256)
            except (OSError, ValidationError, VersionError) as exc:
                # The text of an OSError names all folders, or is empty.
                told = f"{MANIFEST}: {reason_of(exc)}" if isinstance(exc, OSError) else str(exc)
                state = "cannot be read" if is_transient(exc) else "are damaged"
                reason = f"its compiled files for {engine} {state} ({told.splitlines()[0]})"
                cause = exc
                continue
            return folder
        raise NotCompiled(reason) from cause

    def derived_root(self) -> Path:
        """The folder for new compiled files."""
        return self._writable() / COMPILED

    def report(self, host: str) -> Path:
        """The path of a host's last benchmark report, which need not exist."""
        return self._writable() / BENCHMARK / f"{host}.json"

    def check_graph(self, card: Card) -> None:
        """Raises VersionError when the int8 backbone of a version that has one is missing or damaged."""
        if card.precision == "int8":
            self._graph(card, BACKBONE)

    def _graph(self, card: Card, place: str) -> Path:
        """The folder of an int8 graph, below a version's. Raises VersionError unless all is there."""
        folder = self.folder(card.head, card.version)
        files = card.quantization.files if card.quantization else {}
        inside = [name for name in files if Path(name).parent == Path(place)]
        if not inside:
            raise VersionError(f"{CARD} names no files of its int8 graph.")
        for name in inside:
            self._check(folder / name, files[name])
        return folder / place

    def _read(self, path: Path) -> bytes:
        """Reads a small file of the store. Raises OSError, or VersionError as `_own` does."""
        with self._own(path).open("rb") as file:
            content = file.read(MAX_TEXT_BYTES + 1)
        if len(content) > MAX_TEXT_BYTES:
            raise VersionError(f"{path.name} is larger than {MAX_TEXT_BYTES} bytes.")
        return content

    def _check(self, path: Path, sha256: str) -> None:
        check_sha256(self._own(path), sha256)

    def _own(self, path: Path) -> Path:
        """Returns the path. Raises VersionError if a link leaves the store, or it is no regular file."""
        real = path.resolve()
        if not any(real.is_relative_to(root.resolve()) for root in (self.root, self.cache)):
            raise VersionError(f"{path.name} lies outside the store: a link leads there.")
        if real.exists() and not real.is_file():
            raise VersionError(f"{path.name} is not a file.")  # Reading a pipe would wait for ever.
        return path

    def _writable(self) -> Path:
        """The store, or the cache folder where the store is read-only."""
        return self.root if os.access(self.root, os.W_OK) else self.cache


def _check_engine(card: Card, engine: str) -> None:
    """Raises NotForEngine for what only the openvino engine runs."""
    if engine == "openvino":
        return
    if card.source.format == "saved_model":
        raise NotForEngine("a SavedModel")
    if card.precision != "f32":
        raise NotForEngine("an int8 graph" if card.precision == "int8" else "a bf16 head")
    if card.head_weights != "f32":
        raise NotForEngine("a head with int8 weights")


def sha256_of(path: Path) -> str:
    """The sha256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, expected: str) -> None:
    """Raises VersionError when the file cannot be read or has another sha256."""
    try:
        actual = sha256_of(path)
    except OSError as exc:
        raise VersionError(f"{path.name} cannot be read: {reason_of(exc)}.") from exc
    if actual != expected:
        raise VersionError(f"{path.name} is damaged: its sha256 is not the recorded one.")


def stamp_of(file: Path) -> tuple[int, int] | None:
    """A value that changes when the file changes; None if there is no such file."""
    with contextlib.suppress(OSError):
        told = file.stat()
        return told.st_ino, told.st_mtime_ns
    return None


def _entries(folder: Path) -> list[Path]:
    """The entries of a folder, sorted; empty if it cannot be listed."""
    with contextlib.suppress(OSError):
        return sorted(folder.iterdir())
    return []


def _folders(parent: Path, name: re.Pattern[str]) -> list[str]:
    try:
        entries = list(parent.iterdir())
    except (FileNotFoundError, NotADirectoryError):  # Also if it was removed just now.
        return []
    return [entry.name for entry in entries if name.fullmatch(entry.name) and entry.is_dir()]
