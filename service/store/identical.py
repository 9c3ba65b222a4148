"""Finds the version of a head that a new one would only repeat."""

import contextlib

from service.errors import VersionError
from service.store.card import Card
from service.store.layout import Store

# What differs between two publications of one file with the same options.
MAY_DIFFER = ("schema_version", "version", "created", "origin", "notes", "training", "golden")
LEFT_OUT: dict[str, bool | set[str]] = dict.fromkeys(MAY_DIFFER, True) | {"source": {"bytes"}}


def find_identical(store: Store, card: Card) -> Card | None:
    """The newest version of the card's head that holds the same source, input, output and labels.

    A version whose card or source is damaged is no such version, because publishing mends that.
    """
    wanted = card.model_dump(exclude=LEFT_OUT)
    for version in store.versions(card.head):
        with contextlib.suppress(VersionError):
            if store.card(card.head, version).model_dump(exclude=LEFT_OUT) == wanted:
                return store.read_card(card.head, version)
    return None
