"""`resnet-heads import`: publishes a saved model as a version of a head."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from service.errors import CommandError, reason_of
from service.lab.checking.check import ASSUMED, check_source
from service.lab.checking.measured import FIELDS, Field
from service.lab.checking.pictures import choose
from service.lab.data.photographs import class_folders
from service.lab.models.cutting import Cut
from service.lab.models.opening import open_source
from service.lab.models.publishing import Description, publish
from service.store.card import (
    HEAD_NAME,
    PREPROCESSING,
    Card,
    Decode,
    Exif,
    Input,
    Preprocessing,
    Resize,
)
from service.store.layout import Store

DEFAULT_SIDE = 224
KERAS_LOADERS = ("image_dataset", "load_img")
MAX_LABEL_BYTES = 10 * 2**20


@dataclass(frozen=True)
class ImportOptions:
    """The options of the command line; None means not given."""

    head: str
    labels: Path | None = None
    size: int | None = None
    decode: Decode = "exact"
    resize: Resize | None = None
    preprocessing: Preprocessing | None = None
    exif: Exif | None = None
    check: Path | None = None

    def given(self) -> list[Field]:
        """The fields of the input that were said."""
        return [name for name in FIELDS if getattr(self, name) is not None]


def import_model(store: Store, file: Path, wishes: ImportOptions) -> Card:
    """Publishes `file`; the card's notes state each assumption, and what `check` found by photographs.

    Raises CommandError, and then leaves the store as it was.
    """
    if not HEAD_NAME.fullmatch(wishes.head):
        raise CommandError(f"{wishes.head!r} is not a head's name: lower-case letters, digits, - and _.")
    if wishes.size is not None and wishes.size < 1:
        raise CommandError(f"{wishes.size} is not an input side in pixels.")
    labels = _labels(store, file, wishes)
    pictures = choose(wishes.check, labels) if wishes.check else None
    opened = open_source(file)
    height, width = opened.own_size
    size = (wishes.size or height or DEFAULT_SIDE, wishes.size or width or DEFAULT_SIDE)
    cut = opened.cut(size, wishes.preprocessing)
    notes = list(opened.notes)
    if pictures:
        if len(labels) != cut.classes:
            raise CommandError(_mismatch(wishes, len(labels), cut.classes))
        decision = check_source(opened, labels, pictures, _input(wishes, cut, size), wishes.given())
        notes += [f"--check {sentence}" for sentence in decision.sentences(ASSUMED)]
        wishes = replace(wishes, **decision.settled())
    spec = _input(wishes, cut, size)
    notes += _assumptions(wishes, cut, size if None in (height, width) else None)
    if cut.output.to_probabilities == "softmax":
        notes.append("the model ends in logits; a softmax is added")
    if cut.output.to_probabilities == "complement" and len(labels) == cut.classes:
        notes.append(f"the model ends in one sigmoid, taken as the probability of {labels[1]!r}")
    description = Description(
        head=wishes.head,
        labels=labels,
        size=size,
        origin="imported",
        decode=wishes.decode,
        resize=spec.resize,
        exif=spec.exif,
        preprocessing=spec.preprocessing,
        notes=tuple(notes),
    )
    return publish(store, opened, description)


def _input(wishes: ImportOptions, cut: Cut, size: tuple[int, int]) -> Input:
    """The input that was asked for, and assumed where nothing was said."""
    resize = wishes.resize or "image_dataset"
    return Input(
        height=size[0],
        width=size[1],
        exif=wishes.exif or ("ignored" if resize in KERAS_LOADERS else "applied"),
        decode=wishes.decode,
        resize=resize,
        preprocessing=wishes.preprocessing or cut.preprocessing,
    )


def _mismatch(wishes: ImportOptions, labels: int, classes: int) -> str:
    what = "labels were given" if wishes.labels else "folders are in that of --check; say --labels FILE"
    return f"The model has {classes} classes, but {labels} {what}."


def _assumptions(wishes: ImportOptions, cut: Cut, any_size: tuple[int, int] | None) -> Iterator[str]:
    """What was not said and had to be assumed; `any_size` is the size if the model takes any."""
    if any_size and wishes.size is None:
        height, width = any_size
        yield f"assumed input {height}x{width}: the model takes any; say --size if it is another"
    if wishes.preprocessing is None and cut.has_own_preprocessing:
        yield "found preprocessing inside the model; none is added"
    elif wishes.preprocessing is None:
        others = ", ".join(name for name in PREPROCESSING if name != cut.preprocessing.name)
        yield (
            f"assumed --preprocessing {cut.preprocessing}, that of Keras' ResNet50: the model has none; "
            f"answers depend on it, and training may have used another ({others})"
        )
    elif cut.has_own_preprocessing and cut.preprocessing != PREPROCESSING["none"]:
        yield (
            f"warning: the model has preprocessing inside, and --preprocessing {cut.preprocessing} is "
            "added in front of it"
        )
    if wishes.check and wishes.labels is None:
        yield "took the folders of --check, sorted as Keras' loaders sort them, for the labels"
    if wishes.resize is None:
        yield "assumed --resize image_dataset, as image_dataset_from_directory resizes"
    if wishes.exif is None and (wishes.resize or "image_dataset") in KERAS_LOADERS:
        yield "assumed --exif ignored: that loader does not turn pictures by their EXIF orientation"


def _labels(store: Store, file: Path, wishes: ImportOptions) -> tuple[str, ...]:
    """The labels in the order of the model's outputs: of a file, of folders, or of a card."""
    if wishes.labels:
        return read_labels(wishes.labels)
    if wishes.check:
        return class_folders(wishes.check)[1]
    place = file.resolve().parent
    if place.parent.parent == store.root.resolve() and place.name.isdecimal():
        return store.card(place.parent.name, int(place.name)).labels
    raise CommandError(
        "Name the classes with --labels FILE, or with --check FOLDER, where each has a folder."
    )


def read_labels(path: Path) -> tuple[str, ...]:
    """Reads one label a line, in the order of the model's outputs. Raises CommandError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_LABEL_BYTES + 1)
        if len(content) > MAX_LABEL_BYTES:
            raise CommandError(
                f"{path} is larger than {MAX_LABEL_BYTES} bytes; it must hold a label a line."
            )
        lines = content.decode("utf-8-sig").splitlines()
    except OSError as exc:
        raise CommandError(f"{path} cannot be read: {reason_of(exc)}.") from exc
    except UnicodeDecodeError as exc:
        raise CommandError(f"{path} is not UTF-8 text.") from exc
    labels = tuple(line.strip() for line in lines if line.strip())
    if len(labels) < 2:  # noqa: PLR2004 (a choice needs two)
        raise CommandError(f"{path} holds {len(labels)} labels; at least 2 are needed.")
    return labels
