"""Chooses the photographs of a check from folders named by class. It reads headers and decodes none."""

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from service.errors import CommandError, ImageError
from service.lab.data.photographs import (
    TEST,
    TRAIN,
    VALIDATION,
    Photograph,
    class_folders,
    files_of,
)
from service.serving.pixels.decode import is_turned

T = TypeVar("T")

MOST = 400
LEAST = 2  # Pictures, and classes: fewer tell nothing apart.
MAX_BYTES = 100_000_000
MAX_PIXELS = 100_000_000
SHOWN, SHOWN_CHARACTERS = 3, 40


@dataclass(frozen=True)
class Pictures:
    """Photographs in which each class comes in turn; a label is an index of the model's labels.

    `turned` are those that an EXIF orientation turns, and `unread` is how many files are no pictures.
    """

    upright: tuple[Photograph, ...]
    turned: tuple[Photograph, ...]
    unread: int


def choose(folder: Path, labels: Sequence[str]) -> Pictures:
    """Chooses at most 400 photographs from `folder`/<class>/*, each class in turn.

    With train, val and test below `folder` they are those of test, else val, else train. The choice and
    its order depend on the files' content alone; among more than 400 files, on their names first. Of
    equal files one is used, or none if they are of different classes. Raises CommandError when a folder
    is not named as a label, or when there are fewer than two pictures, or classes of them.
    """
    roots, classes = class_folders(folder)
    root = next(roots[split] for split in (TEST, VALIDATION, TRAIN) if split in roots)
    numbers = {_composed(label): number for number, label in enumerate(labels)}
    if unknown := [name for name in classes if _composed(name) not in numbers]:
        raise CommandError(
            f"The model has no label {_listed(unknown)}; the folders in {folder.name} must be named as "
            "its labels."
        )
    files = [(path, numbers[_composed(name)]) for name in classes for path in files_of(root / name)]
    by_name = _in_turn(files, lambda file: file[1], lambda file: _hash(str(file[0].relative_to(root))))
    looked = [(one, _look(*one)) for one in by_name[:MOST]]
    found = [seen for _, seen in looked if seen is not None]
    photographs = _unique(one for one, _ in found)
    if len(photographs) < LEAST or len({one.label for one in photographs}) < LEAST:
        raise CommandError(
            f"{folder.name} holds {len(photographs)} pictures of "
            f"{len({one.label for one in photographs})} classes that can be used; it takes at least "
            f"{LEAST} of {LEAST} classes, and about 40 to tell anything."
        )
    tagged = {one for one, is_tagged in found if is_tagged}
    upright, turned = (
        tuple(_in_turn(ones, lambda one: one.label, lambda one: one.sha256))
        for ones in (set(photographs) - tagged, set(photographs) & tagged)
    )
    return Pictures(upright, turned, len(looked) - len(found))


def _look(path: Path, label: int) -> tuple[Photograph, bool] | None:
    """The photograph in a file, and whether EXIF turns it; None if the file cannot be used."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        data = path.read_bytes()
        return Photograph(path, hashlib.sha256(data).hexdigest(), label), is_turned(data, MAX_PIXELS)
    except (ImageError, OSError):
        return None


def _unique(photographs: Iterable[Photograph]) -> list[Photograph]:
    by_content: dict[str, list[Photograph]] = defaultdict(list)
    for one in photographs:
        by_content[one.sha256].append(one)
    return [copies[0] for copies in by_content.values() if len({one.label for one in copies}) == 1]


def _in_turn(items: Iterable[T], label: Callable[[T], int], key: Callable[[T], str]) -> list[T]:
    """Sorts by key, and takes one item of each label in turn."""
    ranks: dict[int, int] = defaultdict(int)
    ranked = []
    for item in sorted(items, key=key):
        ranked.append((ranks[label(item)], item))
        ranks[label(item)] += 1
    return [item for _, item in sorted(ranked, key=lambda one: one[0])]


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()


def _composed(name: str) -> str:
    """macOS writes the accents of file names as characters of their own."""
    return unicodedata.normalize("NFC", name)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:SHOWN_CHARACTERS]) for name in names[:SHOWN])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return shown + more
