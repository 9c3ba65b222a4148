"""Checks what a command was given as far as that can be done without TensorFlow.

The functions of the lab check it themselves. The command line does so before it imports them, because
TensorFlow takes seconds to import.
"""

from collections.abc import Sequence
from pathlib import Path

from service.errors import CommandError
from service.lab.data.photographs import class_folders
from service.lab.precision.choice import Choice
from service.lab.training.head_spec import HeadSpec
from service.store.card import HEAD_NAME, Card
from service.store.layout import Store
from service.store.publish import check_writable

TUNED = "-tuned"
MAX_POINTS = 100
SHOWN_CHARACTERS = 80


def check_head_name(name: str) -> None:
    """Raises CommandError unless a head may be named so."""
    if not HEAD_NAME.fullmatch(name):
        raise CommandError(
            f"{name[:SHOWN_CHARACTERS]!r} is not a head's name: at most 63 lower-case letters, digits, "
            "- and _, the first a letter or a digit."
        )


def check_init(store: Store, weights: str | None) -> None:
    """Checks the options of `init`. Raises CommandError, or OSError where the store takes nothing."""
    if store.heads():
        raise CommandError(f"The store {store.root} is not empty; init fills only an empty one.")
    if weights not in (None, "imagenet", "demo") and not Path(weights).is_file():
        raise CommandError(f"There is no weights file {weights}.")
    check_writable(store.root)


def check_train(
    store: Store, folder: Path, heads: Sequence[HeadSpec], weights: str | None, *, is_tuned: bool
) -> None:
    """Checks the options of `train`. Raises CommandError, VersionError or OSError."""
    names = [head.name for head in heads]
    if is_tuned:
        names += [name + TUNED for name in names]
    for name in names:
        if names.count(name) > 1:
            raise CommandError(f"Two heads are named {name}; give one another name: NAME=POOLING")
        _check_length(name)
    class_folders(folder)
    if weights is not None:
        check_weights(store, weights)
    check_writable(store.root)


def check_weights(store: Store, weights: str) -> None:
    """Checks `--weights` of `train`. Raises CommandError, or VersionError for a head without a card."""
    if weights in store.heads():
        if store.card(weights, store.versions(weights)[0]).source.format == "saved_model":
            raise CommandError(
                f"--weights {weights}: a SavedModel holds no Keras model to train; name one saved as "
                ".keras or .h5."
            )
    elif weights not in ("imagenet", "random") and not Path(weights).is_file():
        raise CommandError(
            f"--weights {weights}: neither imagenet, random, a head in {store.root}, nor a file."
        )


def check_quantize(
    store: Store, cards: Sequence[Card], choice: Choice, folder: Path | None, max_drop: float
) -> None:
    """Checks the options of `quantize`. Raises CommandError or OSError."""
    if not 0 <= max_drop <= MAX_POINTS:
        raise CommandError(f"--max-drop {max_drop:g} is not between 0 and {MAX_POINTS} points.")
    first = cards[0]
    for card in cards:
        if card.quantization:
            raise CommandError(
                f"quantize made {card.head} of {card.quantization.source_head}; name that one."
            )
        _check_length(choice.name_of(card.head))
        if (card.backbone.digest, card.input) != (first.backbone.digest, first.input):
            raise CommandError(
                f"{first.head} and {card.head} do not share a backbone; quantize one after the other."
            )
    if folder is None and choice.precision == "int8":
        raise CommandError("int8 is calibrated on pictures: say --images FOLDER.")
    labels = class_folders(folder)[1] if folder else []
    for card in cards:
        unknown = [repr(label) for label in labels if label not in card.labels]
        if unknown:
            raise CommandError(
                f"{card.head} has no label {', '.join(unknown)}; "
                "the folders of --images must be named as its labels."
            )
    check_writable(store.root)


def _check_length(name: str) -> None:
    if not HEAD_NAME.fullmatch(name):
        raise CommandError(f"{name} is too long for a head's name: at most 63 characters.")
