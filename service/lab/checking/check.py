"""Checks a source that is being imported, and a published head (`resnet-heads check`).

What is wrong with folders and heads is told before TensorFlow is imported, which takes seconds.
"""

import shlex
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service.console import say
from service.errors import CommandError
from service.lab.checking.fields import Field
from service.lab.checking.pictures import Pictures, choose
from service.store.card import PREPROCESSING, Card, Input
from service.store.layout import ARCHITECTURE, Store

if TYPE_CHECKING:
    from service.lab.checking.findings import Decision
    from service.lab.models.cutting import OpenedSource

ASSUMED, CARDS = "the assumed", "the card's"


def check_source(
    opened: "OpenedSource",
    labels: Sequence[str],
    pictures: Pictures,
    assumed: Input,
    given: Collection[Field],
    *,
    was: str = ASSUMED,
) -> "Decision":
    """Measures which input the model was trained on, and prints it. Raises CommandError."""
    import service.serving.engines.quiet_tensorflow  # noqa: F401 (before Keras)
    from service.lab.checking.findings import decide
    from service.lab.checking.measuring import measure
    from service.lab.checking.table import show_measured

    if pictures.unread:
        say(f"{pictures.unread} files are not used: they are no pictures that can be read.")
    bare = opened.cut((assumed.height, assumed.width), PREPROCESSING["none"])
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
            f"quantize made {card.head} of {card.quantization.source_head}; check that one."
        )
    pictures = choose(folder, card.labels)
    source = store.source_of(card)
    import service.serving.engines.quiet_tensorflow  # noqa: F401 (before Keras)
    from service.lab.models.opening import open_version

    opened = open_version(store, card)
    decision = check_source(opened, card.labels, pictures, card.input, (), was=CARDS)
    if decision.chosen == card.input:
        return None
    words = ["resnet-heads", "import", str(source), "--head", card.head, "--store-dir", str(store.root)]
    if ARCHITECTURE in card.source.files:
        words += ["--architecture", str(source.with_name(ARCHITECTURE))]
    if None in opened.own_size:
        words += ["--size", str(card.input.height)]
    return shlex.join([*words, *_flags(decision.chosen)])


def _flags(one: Input) -> Iterator[str]:
    """The options of `import` that say this input, but for its size."""
    how = one.preprocessing
    if how.name:
        yield from ("--preprocessing", how.name)
    else:
        mean, std = (",".join(map(repr, values)) for values in (how.mean, how.std))
        yield from ("--order", how.order, f"--mean={mean}", f"--std={std}")
    yield from ("--resize", one.resize, "--exif", one.exif, "--decode", one.decode)
