"""`resnet-heads compile`: derives the compiled files of an engine again from the source.

A server runs this module in a child process.
"""

import contextlib
import os
import sys
from pathlib import Path

from service.console import say
from service.errors import ServiceError, is_transient
from service.serving import child_process
from service.serving.engines import EngineName
from service.store.card import Card
from service.store.layout import NotCompiled, Store


def recompile(store: Store, head: str, version: int, engine: EngineName) -> Card:
    """Writes the missing or damaged compiled files of a version. Raises VersionError or CommandError.

    int8 graphs are never derived here: they lie in the version's folder.
    """
    card = store.card(head, version)
    with contextlib.suppress(NotCompiled):
        store.backbone_of(card, engine)
        store.head_of(card, engine)
        return card
    # What is wrong with the card was told without TensorFlow, which takes seconds to import.
    import service.serving.engines.quiet_tensorflow  # noqa: F401 (before Keras)
    from service.lab.models import compile as compiling
    from service.lab.models.opening import open_version

    size = (card.input.height, card.input.width)
    cut = open_version(store, card).cut(size, card.input.preprocessing)
    backbone, head = cut.graphs() if engine == "openvino" else cut.networks()
    write = compiling.store_openvino if engine == "openvino" else compiling.store_keras
    if card.head_weights != "int8":
        write(store, head, card.structure.digest)
    if card.precision != "int8":
        write(store, backbone, card.backbone.digest)
    return card


def main() -> None:
    """Runs `recompile` with sys.argv, and ends when stdin closes: the server has then ended.

    Prints one line on an error, and exits with EX_TEMPFAIL if another try may succeed, else with 2.
    """
    child_process.end_with_parent()
    root, cache, head, version, name = sys.argv[1:]
    engine: EngineName = "keras" if name == "keras" else "openvino"
    try:
        recompile(Store(Path(root), Path(cache)), head, int(version), engine)
    except Exception as exc:
        reason = str(exc) if isinstance(exc, ServiceError) else f"{type(exc).__name__}: {exc}"
        say(f"resnet-heads: {reason}")
        sys.exit(os.EX_TEMPFAIL if is_transient(exc) else 2)


if __name__ == "__main__":
    main()
