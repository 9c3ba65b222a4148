"""Reads a folder of photographs into classes and splits. It hashes the files and decodes none."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.errors import CommandError
from service.store.layout import sha256_of

TRAIN, VALIDATION, TEST = SPLITS = ("train", "validation", "test")
GIVEN = {"train": TRAIN, "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION, "test": TEST}
HELD_OUT = 0.15  # The share of each class that is held out where validation or test is not given.
MIN_IMAGES = 4  # A class with fewer has too few to hold some out.


@dataclass(frozen=True)
class Photograph:
    """One file; `label` is the index of its class."""

    path: Path
    sha256: str
    label: int


@dataclass(frozen=True)
class Photographs:
    """Photographs by split, in an order that does not depend on their paths; `notes` are for people."""

    labels: tuple[str, ...]
    splits: Mapping[str, tuple[Photograph, ...]]
    notes: tuple[str, ...]

    def digest(self) -> str:
        """A digest of labels, files and splits. Heads are comparable if it is equal."""
        told = [(split, one.sha256, one.label) for split in SPLITS for one in self.splits[split]]
        return hashlib.sha256(repr((self.labels, told)).encode()).hexdigest()

    def without(self, broken: Iterable[Photograph]) -> "Photographs":
        """Removes the broken files. Raises CommandError when a class has none left in a split."""
        gone = set(broken)
        kept = {
            split: tuple(one for one in ones if one not in gone) for split, ones in self.splits.items()
        }
        _check(self.labels, kept)
        return Photographs(self.labels, kept, self.notes)


def read_photographs(folder: Path, seed: int = 0) -> Photographs:
    """Reads `folder`/<class>/* or `folder`/{train,val,test}/<class>/*, each duplicate only once.

    A split that is not given gets the same share of each class; which files it gets depends only on
    their content and the seed. Raises CommandError.
    """
    roots, labels = class_folders(folder)
    found = {split: list(_photographs(root, labels)) for split, root in roots.items()}
    unique, notes = _without_duplicates(found, labels)
    splits = {split: unique.get(split, []) for split in SPLITS}
    for split in (TEST, VALIDATION):
        if split in roots:
            continue
        label, count = _fewest(labels, splits[TRAIN])
        if count < MIN_IMAGES:
            raise CommandError(f"{label!r} has {count} pictures; {MIN_IMAGES} are needed.")
        splits[TRAIN], splits[split] = _divided(splits[TRAIN], labels, f"{seed} {split}")
        notes.append(f"{len(splits[split])} of the pictures for training are held out for {split}")
    _check(labels, splits)
    return Photographs(labels, {split: tuple(ones) for split, ones in splits.items()}, tuple(notes))


def class_folders(folder: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The folder of each given split, and the classes that have a folder there. Opens no file.

    Raises CommandError.
    """
    if not folder.is_dir():
        raise CommandError(f"There is no folder {folder}.")
    given = {split: folder / name for name, split in GIVEN.items() if (folder / name).is_dir()}
    if given and TRAIN not in given:
        raise CommandError(f"{folder} has {' and '.join(given)}, but no train folder.")
    roots = given or {TRAIN: folder}
    labels = tuple(sorted({entry.name for root in roots.values() for entry in _classes(root)}))
    if len(labels) < 2:  # noqa: PLR2004 (a choice needs two)
        raise CommandError(
            f"{folder} holds {len(labels)} folders of pictures; a class each, two at least."
        )
    _check_text(labels)
    return roots, labels


def _classes(root: Path) -> list[Path]:
    return [entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")]


def _check_text(labels: Iterable[str]) -> None:
    for label in labels:
        try:
            label.encode()
        except UnicodeEncodeError as exc:
            raise CommandError(f"The folder {label!r} is not named in UTF-8, as labels are.") from exc


def _photographs(root: Path, labels: tuple[str, ...]) -> Iterable[Photograph]:
    for label, name in enumerate(labels):
        for path in files_of(root / name):
            yield Photograph(path, sha256_of(path), label)


def files_of(folder: Path) -> Iterator[Path]:
    """Every file below a folder, except hidden ones."""
    for inside, inner, files in os.walk(folder):
        inner[:] = sorted(one for one in inner if not one.startswith("."))
        for file in sorted(one for one in files if not one.startswith(".")):
            yield Path(inside, file)


def _without_duplicates(
    found: Mapping[str, list[Photograph]], labels: tuple[str, ...]
) -> tuple[dict[str, list[Photograph]], list[str]]:
    """Keeps one copy of each content: in test, else validation, else train.

    A content that occurs in two classes is not used at all.
    """
    copies: dict[str, list[tuple[str, Photograph]]] = defaultdict(list)
    for split in (TEST, VALIDATION, TRAIN):
        for one in found.get(split, []):
            copies[one.sha256].append((split, one))
    unique: dict[str, list[Photograph]] = {split: [] for split in found}
    notes = []
    for _, places in sorted(copies.items()):
        (split, first), *others = places
        classes = sorted({labels[one.label] for _, one in places})
        if len(classes) > 1:
            notes.append(f"{first.path} is in {' and '.join(classes)}: not used")
            continue
        unique[split].append(first)
        if others:
            paths = ", ".join(str(one.path) for _, one in others)
            notes.append(f"{first.path} is used for {split}; its copies are not: {paths}")
    return unique, notes


def _divided(
    ones: list[Photograph], labels: tuple[str, ...], key: str
) -> tuple[list[Photograph], list[Photograph]]:
    """Splits into what stays and what is held out: a share of each class, chosen by content hash."""
    held: set[Photograph] = set()
    for label in range(len(labels)):
        mine = [one for one in ones if one.label == label]
        mine.sort(key=lambda one: hashlib.sha256(f"{key} {one.sha256}".encode()).digest())
        held.update(mine[: max(1, round(HELD_OUT * len(mine)))])
    return [one for one in ones if one not in held], [one for one in ones if one in held]


def _fewest(labels: tuple[str, ...], ones: Iterable[Photograph]) -> tuple[str, int]:
    counts = Counter(one.label for one in ones)
    label = min(range(len(labels)), key=lambda label: counts[label])
    return labels[label], counts[label]


def _check(labels: tuple[str, ...], splits: Mapping[str, Iterable[Photograph]]) -> None:
    for split, ones in splits.items():
        label, count = _fewest(labels, ones)
        if count == 0:
            raise CommandError(f"{label!r} has no usable picture for {split}.")
