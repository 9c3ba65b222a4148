"""Compares heads on two backbones on the same held-out pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from service.console import say, track
from service.lab.data.features import BATCH, Decoded
from service.lab.data.photographs import TEST, Photograph, Photographs
from service.serving.engines import Network
from service.store.card import Card

Classes = NDArray[np.int64]


@dataclass(frozen=True)
class Trial:
    """A head, and its top-1 classes on held-out pictures with its backbone and with the replacement."""

    card: Card
    network: Network
    truth: Sequence[str]
    before: Classes
    after: Classes

    def right(self, guesses: Classes) -> int:
        """The number of right guesses, compared by name: two classes of ImageNet share one."""
        names = [self.card.labels[guess] for guess in guesses]
        return sum(name == label for name, label in zip(names, self.truth, strict=True))

    def drop(self) -> float:
        """The loss of accuracy in percentage points."""
        return 100 * (self.right(self.before) - self.right(self.after)) / len(self.truth)


def compare_heads(
    cards: Sequence[Card],
    heads: Sequence[Network],
    backbones: Sequence[Network],
    decoded: Decoded,
    found: Photographs,
) -> list[Trial]:
    """Runs every head on both backbones, on all readable held-out pictures."""
    truth: list[str] = []
    guesses: list[list[list[int]]] = [[[] for _ in backbones] for _ in heads]
    for ones, pixels in read_batches(decoded, found.splits[TEST], "Comparing int8 with float32"):
        truth += [found.labels[one.label] for one in ones]
        for at, backbone in enumerate(backbones):
            features = backbone(pixels)
            for of_head, head in zip(guesses, heads, strict=True):
                of_head[at] += head(features).argmax(axis=1).tolist()
    return [
        Trial(card, head, truth, *(np.array(of_backbone, np.int64) for of_backbone in of_head))
        for card, head, of_head in zip(cards, heads, guesses, strict=True)
    ]


def read_batches(
    decoded: Decoded, ones: Sequence[Photograph], doing: str
) -> Iterator[tuple[list[Photograph], NDArray[np.uint8]]]:
    """The pixels of the photographs in batches, with a progress bar."""
    return track(decoded.batches(ones), ceil(len(ones) / BATCH), doing)


def usable(found: Photographs, decoded: Decoded) -> Photographs:
    """The photographs without broken ones, which are printed once. Raises CommandError."""
    for one, reason in decoded.broken.items():
        say(f"{one.path} is not used: {reason}")
    kept = found.without(decoded.broken)
    decoded.broken.clear()
    return kept
