"""`resnet-heads import`: publishes a saved model as a version of a head."""

from dataclasses import dataclass
from pathlib import Path

from service.errors import CommandError, reason_of
from service.lab.models.graph import own_size
from service.lab.models.publishing import Description, publish
from service.lab.models.reading import load_model
from service.lab.models.split import split
from service.store.card import HEAD_NAME, Card, Decode, Preprocessing, Resize
from service.store.layout import Store

DEFAULT_SIDE = 224
MAX_LABEL_BYTES = 10 * 2**20


@dataclass(frozen=True)
class ImportOptions:
    """The options of the command line; None means not given."""

    head: str
    labels: Path
    size: int | None = None
    decode: Decode = "exact"
    resize: Resize | None = None
    preprocessing: Preprocessing | None = None


def import_model(store: Store, file: Path, wishes: ImportOptions) -> Card:
    """Publishes `file`; the card's notes state each assumption.

    Raises CommandError, and then leaves the store as it was.
    """
    if not HEAD_NAME.fullmatch(wishes.head):
        raise CommandError(f"{wishes.head!r} is not a head's name: lower-case letters, digits, - and _.")
    if wishes.size is not None and wishes.size < 1:
        raise CommandError(f"{wishes.size} is not an input side in pixels.")
    labels = read_labels(wishes.labels)
    model = load_model(file)
    height, width = own_size(model)
    size = (wishes.size or height or DEFAULT_SIDE, wishes.size or width or DEFAULT_SIDE)
    cut = split(model, size, wishes.preprocessing)
    notes = []
    if None in (height, width) and wishes.size is None:
        notes.append(
            f"assumed input {size[0]}x{size[1]}: the model takes any; say --size if it is another"
        )
    if wishes.preprocessing is None and cut.preprocessing == "none":
        notes.append("found preprocessing inside the model; none is added")
    elif wishes.preprocessing is None:
        notes.append("assumed --preprocessing caffe, that of Keras' ResNet50: the model holds none")
    if wishes.resize is None:
        notes.append("assumed --resize image_dataset, as image_dataset_from_directory resizes")
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
        resize=wishes.resize or "image_dataset",
        preprocessing=cut.preprocessing,
        notes=tuple(notes),
    )
    return publish(store, file, description)


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
