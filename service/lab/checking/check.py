"""Checks a source that is being imported, and a published head (`resnet-heads check`)."""

import shlex
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from service.console import say
from service.errors import CommandError
from service.lab.checking.findings import Decision, decide
from service.lab.checking.measured import Field
from service.lab.checking.measuring import NONE, measure
from service.lab.checking.pictures import Pictures, choose
from service.lab.checking.table import show_measured
from service.lab.models.cutting import OpenedSource
from service.lab.models.opening import open_version
from service.store.card import Card, Input
from service.store.layout import Store

ASSUMED, CARDS = "the assumed", "the card's"


def check_source(
    opened: OpenedSource,
    labels: Sequence[str],
    pictures: Pictures,
    assumed: Input,
    given: Collection[Field],
    *,
    was: str = ASSUMED,
) -> Decision:
    """Measures which input the model was trained on, and prints it. Raises CommandError."""
    if pictures.unread:
        say(f"{pictures.unread} files are not used: they are no pictures that can be read.")
    bare = opened.cut((assumed.height, assumed.width), NONE)
    measured = measure(bare, assumed, given, pictures)
    decision = decide(measured, labels, given)
    show_measured(measured, decision, was)
    return decision


def check_head(store: Store, card: Card, folder: Path) -> str | None:
    """Measures and prints which input a published head was trained on.

    Returns the command that publishes it with a better input than the card's, or None where none is.
    Raises CommandError or VersionError.
    """
    if card.quantization is not None:
        raise CommandError(
            f"{card.head} is an int8 head; check {card.quantization.source_head}, of which it was made."
        )
    pictures = choose(folder, card.labels)
    opened = open_version(store, card)
    decision = check_source(opened, card.labels, pictures, card.input, (), was=CARDS)
    if decision.chosen == card.input:
        return None
    size = ("--size", str(card.input.height)) if None in opened.own_size else ()
    return shlex.join(
        [
            *("resnet-heads", "import", str(store.source_of(card)), "--head", card.head),
            *("--store-dir", str(store.root), *size, *_flags(decision.chosen)),
        ]
    )


def _flags(one: Input) -> Iterator[str]:
    """The options of `import` that say this input, but for its size."""
    how = one.preprocessing
    if how.name:
        yield from ("--preprocessing", how.name)
    else:
        mean, std = (",".join(map(repr, values)) for values in (how.mean, how.std))
        yield from ("--order", how.order, f"--mean={mean}", f"--std={std}")
    yield from ("--resize", one.resize, "--exif", one.exif, "--decode", one.decode)
