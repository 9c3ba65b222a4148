"""Reads the labels of a model from a file, in the forms in which people have them.

They are a label a line, with or without numbers; a JSON list; a JSON object of labels and numbers. No
TensorFlow is imported here, so that a wrong file is told at once.
"""

import codecs
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import CommandError, reason_of

MAX_LABEL_BYTES = 10 * 2**20
MAX_LABEL_CHARACTERS = 200
SHOWN_CHARACTERS = 40
UNSEEN = {"Cc", "Cs", "Zl", "Zp"}  # Controls, lone surrogates, separators of lines and paragraphs.
BYTE_ORDER_MARK = "\ufeff"

JSON_STARTS = ("{", "[", '"')
PRINTED = re.compile(r"""[\w.]*[(\[{]+\s*['"]|'.*',?$""")  # ('daisy', or array(['daisy', or 'daisy',
OPENED = re.compile(r"\w.*[(\[{]$")  # LABELS = [
CLOSED = re.compile(r"[)\]}]")
NUMBER, LABEL = "(?P<number>[0-9]{1,7})", "(?P<label>.+?)"
# Teachable Machine's `0 daisy`, and 0: daisy, 0,daisy, 0. daisy, 0 - daisy; but not 0:30.
NUMBER_FIRST = re.compile(rf"{NUMBER}(\s*[:;,=|)]\s*(?![0-9])|\.?\s+(-\s+)?){LABEL}")
NUMBER_LAST = re.compile(rf"{LABEL}\s*[:;,=|\t]\s*{NUMBER}")  # daisy,0

ADVICE = "write one label a line"
NOT_JSON = f"looks like JSON or a printed list, but is no valid JSON; {ADVICE}"
OTHER_JSON = f"is neither a JSON list of labels nor a JSON object of labels and their numbers; {ADVICE}"

Entry = tuple[str, str]  # Where a label is, for messages, and the label.


@dataclass(frozen=True)
class Labels:
    """The labels in the order of the model's outputs, and notes on how they were read."""

    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Repeated(ValueError):
    """A label is there twice."""


def read_labels(path: Path) -> Labels:
    """Reads two labels or more, each once. Raises CommandError.

    A JSON object gives the order by its numbers, 0 to n - 1. Such numbers at the lines of a text are
    taken off if they are in order, and a note says so. What looks like JSON is never read as lines.
    """
    try:
        text = _text(path)
        return _of_json(text) if text.lstrip().startswith(JSON_STARTS) else _of_lines(text)
    except OSError as exc:
        raise CommandError(f"{path} cannot be read: {reason_of(exc)}.") from exc
    except ValueError as exc:
        raise CommandError(f"{path.name} {exc}.") from exc


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MAX_LABEL_BYTES + 1)
    if len(content) > MAX_LABEL_BYTES:
        raise ValueError(f"is larger than {MAX_LABEL_BYTES} bytes; {ADVICE}")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("is not UTF-8 text, but UTF-16; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ValueError("is not UTF-8 text; save it as UTF-8") from exc
    if "\0" in text:
        raise ValueError("is not UTF-8 text, for it holds NUL bytes; save it as UTF-8")
    return text


def _of_json(text: str) -> Labels:
    try:
        # Objects become tuples of pairs, because a dict would lose names that are there twice.
        found = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError) as exc:
        raise ValueError(NOT_JSON) from exc
    if isinstance(found, tuple):
        numbered = sorted(map(_numbered, found))
        if missing := set(range(len(numbered))) - {number for number, _ in numbered}:
            raise ValueError(
                f"must number its {len(numbered)} labels from 0 to {len(numbered) - 1}, each once; "
                f"{min(missing)} is missing"
            )
        return _labels([(f"number {number}", label.strip()) for number, label in numbered])
    if isinstance(found, list) and all(isinstance(one, str) for one in found):
        return _labels([(f"item {place}", one.strip()) for place, one in enumerate(found, 1)])
    raise ValueError(OTHER_JSON)


def _numbered(pair: tuple[str, object]) -> tuple[int, str]:
    """The number and the label of `"daisy": 0`, as in Keras' `class_indices`, or of `"0": "daisy"`."""
    name, value = pair
    if type(value) is int:
        return value, name
    if isinstance(value, str) and re.fullmatch("[0-9]{1,7}", name):
        return int(name), value
    raise ValueError(OTHER_JSON)


def _of_lines(text: str) -> Labels:
    lines = enumerate(re.split("\r\n|\r|\n", text), 1)
    entries = [(f"line {place}", line.strip()) for place, line in lines if line.strip()]
    _check_lengths(entries)  # Before the patterns, which are slow on long lines.
    if _is_code([line for _, line in entries]):
        raise ValueError(NOT_JSON)
    bare = _without_numbers(entries)
    if bare is None:
        return _labels(entries)
    try:
        return _labels(bare, f"took the numbers 0 to {len(bare) - 1} off the lines of the labels")
    except Repeated as exc:  # 0 stars, 1 star, 2 stars
        raise ValueError(
            f"{exc}, next to a number; if it belongs to the label, write a JSON list"
        ) from exc


def _is_code(lines: Sequence[str]) -> bool:
    """Whether the lines are a list as Python prints it, or part of a program."""
    return bool(lines) and (
        PRINTED.match(lines[0]) is not None
        or (any(map(OPENED.search, lines)) and any(map(CLOSED.match, lines)))
        or (len(lines) > 1 and all(line.endswith(",") for line in lines[:-1]))
    )


def _without_numbers(entries: Sequence[Entry]) -> list[Entry] | None:
    """The labels without their numbers, if every line begins or ends with one of 0 to n - 1, else None.

    Raises ValueError if the numbers are not in order, or if only the first line has none.
    """
    for pattern in (NUMBER_FIRST, NUMBER_LAST):
        found = [(place, pattern.fullmatch(line)) for place, line in entries]
        numbers = [int(one["number"]) for _, one in found if one]
        if len(numbers) < 2 or sorted(numbers) != list(range(len(numbers))):  # noqa: PLR2004 (a choice)
            continue
        if len(numbers) == len(found) - 1 and not found[0][1]:
            raise ValueError(f"looks like a table with a heading; {ADVICE} and nothing else")
        if len(numbers) == len(found):
            if numbers != sorted(numbers):
                raise ValueError("numbers its lines, but not in order; sort them by number")
            return [(place, one["label"]) for place, one in found if one]
    return None


def _labels(entries: Sequence[Entry], *notes: str) -> Labels:
    """Returns the labels after their checks. Raises ValueError, or Repeated."""
    if len(entries) < 2:  # noqa: PLR2004 (a choice needs two)
        raise ValueError(f"holds {len(entries)} labels; at least 2 are needed, one label a line")
    _check_lengths(entries)
    places: dict[str, str] = {}
    for place, label in entries:
        for one in label:
            if unicodedata.category(one) in UNSEEN or one == BYTE_ORDER_MARK:
                raise ValueError(f"holds the character U+{ord(one):04X} at {place}; take it out")
        first = places.setdefault(unicodedata.normalize("NFC", label), place)
        if first != place:
            raise Repeated(f"has the label {label[:SHOWN_CHARACTERS]!r} twice, at {first} and {place}")
    return Labels(tuple(label for _, label in entries), notes)


def _check_lengths(entries: Sequence[Entry]) -> None:
    for place, label in entries:
        if not label:
            raise ValueError(f"has no label at {place}")
        if len(label) > MAX_LABEL_CHARACTERS:
            raise ValueError(
                f"has {len(label)} characters at {place}, more than the {MAX_LABEL_CHARACTERS} that a "
                f"label may have; {ADVICE}"
            )
