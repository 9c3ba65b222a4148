"""`resnet-heads import`: publishes a saved model as a version of a head."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from service.console import say
from service.errors import CommandError
from service.lab.checking.fields import FIELDS, Field
from service.lab.checking.pictures import choose
from service.lab.checks import check_head_name
from service.lab.data.photographs import class_folders
from service.lab.labels import Labels, read_labels
from service.lab.models.formats import recognise
from service.store.card import PREPROCESSING, Card, Decode, Exif, Input, Preprocessing, Resize
from service.store.identical import find_identical
from service.store.layout import Store
from service.store.publish import check_writable, publish_version

if TYPE_CHECKING:
    from service.lab.models.cutting import Cut

DEFAULT_SIDE = 224
KERAS_LOADERS = ("image_dataset", "load_img")


@dataclass(frozen=True)
class ImportOptions:
    """The options of the command line; None means not given."""

    head: str
    labels: Path | None = None
    architecture: Path | None = None
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

    Where a version of the head holds the same already, publishes nothing and returns that one's card.
    Raises CommandError, and then leaves the store as it was.
    """
    check_head_name(wishes.head)
    if wishes.size is not None and wishes.size < 1:
        raise CommandError(f"{wishes.size} is not an input side in pixels.")
    labels = _labels(store, file, wishes)
    pictures = choose(wishes.check, labels.names) if wishes.check else None
    if wishes.architecture and not wishes.architecture.is_file():
        raise CommandError(f"There is no file {wishes.architecture}.")
    recognise(file, has_architecture=wishes.architecture is not None)
    check_writable(store.root)
    # All that can be told without TensorFlow, which takes seconds to import, is told by now.
    import service.serving.engines.quiet_tensorflow  # noqa: F401 (before Keras)
    from service.lab.checking.check import ASSUMED, check_source
    from service.lab.models.opening import open_source
    from service.lab.models.publishing import Description, prepared

    is_said = wishes.preprocessing is not None or pictures is not None
    opened = open_source(file, wishes.architecture, is_preprocessing_said=is_said)
    height, width = opened.own_size
    size = (wishes.size or height or DEFAULT_SIDE, wishes.size or width or DEFAULT_SIDE)
    cut = opened.cut(size, wishes.preprocessing)
    notes = [*opened.notes, *labels.notes]
    if pictures:
        if len(labels.names) != cut.classes:
            raise CommandError(_mismatch(wishes, len(labels.names), cut.classes))
        assumed = _input(wishes, cut, size)
        decision = check_source(opened, labels.names, pictures, assumed, wishes.given())
        notes += [f"--check {sentence}" for sentence in decision.sentences(ASSUMED)]
        wishes = replace(wishes, **decision.settled())
        if opened.unsaid and wishes.preprocessing is None:
            raise CommandError(opened.unsaid)
    spec = _input(wishes, cut, size)
    notes += _assumptions(wishes, cut, size if None in (height, width) else None)
    notes += _ending(cut, labels.names)
    description = Description(
        head=wishes.head,
        labels=labels.names,
        size=size,
        origin="imported",
        decode=wishes.decode,
        resize=spec.resize,
        exif=spec.exif,
        preprocessing=spec.preprocessing,
        notes=tuple(notes),
    )
    with prepared(store, opened, description) as (folder, card):
        if same := find_identical(store, card):
            say(_repeated(store, same))
            return same
        return publish_version(store, folder, card)


def _labels(store: Store, file: Path, wishes: ImportOptions) -> Labels:
    """The labels in the order of the model's outputs: of a file, of folders, or of a card."""
    if wishes.labels:
        return read_labels(wishes.labels)
    if wishes.check:
        note = "took the folders of --check, sorted as Keras' loaders sort them, for the labels"
        return Labels(class_folders(wishes.check)[1], (note,))
    place = file.resolve().parent
    if place.parent.parent == store.root.resolve() and place.name.isdecimal():
        return Labels(store.card(place.parent.name, int(place.name)).labels, ())
    raise CommandError(
        "Name the classes with --labels FILE, or with --check FOLDER, where each has a folder."
    )


def _input(wishes: ImportOptions, cut: "Cut", size: tuple[int, int]) -> Input:
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


def _assumptions(wishes: ImportOptions, cut: "Cut", any_size: tuple[int, int] | None) -> Iterator[str]:
    """What was not said and had to be assumed; `any_size` is the size if the model takes any."""
    if any_size and wishes.size is None:
        height, width = any_size
        yield f"assumed input {height}x{width}: the model takes any; say --size if it is another"
    if wishes.preprocessing is None and cut.has_own_preprocessing:
        yield "found preprocessing inside the model; none is added"
    elif wishes.preprocessing is None:
        others = ", ".join(name for name in PREPROCESSING if name != cut.preprocessing.name)
        yield (
            f"assumed --preprocessing {cut.preprocessing}, {_based_on(cut)}; answers depend on it, and "
            f"training may have used another ({others})"
        )
    elif cut.has_own_preprocessing and cut.preprocessing != PREPROCESSING["none"]:
        yield (
            f"warning: the model has preprocessing inside, and --preprocessing {cut.preprocessing} is "
            "added in front of it"
        )
    if wishes.resize is None:
        yield "assumed --resize image_dataset, as image_dataset_from_directory resizes"
    if wishes.exif is None and (wishes.resize or "image_dataset") in KERAS_LOADERS:
        yield "assumed --exif ignored: that loader does not turn pictures by their EXIF orientation"


def _repeated(store: Store, same: Card) -> str:
    """Says which version holds the file already, and how it comes to serve if a newer one does."""
    newest = store.versions(same.head)[0]
    told = (
        f"{same.head} version {same.version} holds this file already, with the same labels and options"
    )
    if newest == same.version:
        return f"{told}: nothing is published."
    return (
        f"{told}: nothing is published, and version {newest} goes on serving; to change that, set "
        f"RESNET_HEADS_PINNED={same.head}={same.version}."
    )


def _based_on(cut: "Cut") -> str:
    """Where the assumed preprocessing is from."""
    if cut.family is None:
        return "a guess: the backbone was not recognised, and this is that of Keras' ResNet50"
    return f"that of Keras' {cut.family}, whose structure the backbone has"


def _ending(cut: "Cut", labels: tuple[str, ...]) -> Iterator[str]:
    """What is added behind the model, and which label its one unit stands for."""
    second = repr(labels[1][:60])
    match cut.output.to_probabilities:
        case "softmax":
            yield "the model ends in linear units, taken as logits; a softmax is added"
        case "sigmoid":
            yield (
                "the model ends in one logit, as its compiled loss says (from_logits); a sigmoid is "
                f"added, taken as the probability of {second}"
            )
        case "complement":
            yield f"the model ends in one sigmoid, taken as the probability of {second}"
