"""Compares the networks of heads before and after on the same held-out pictures."""

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

Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class Trial:
    """A head, and its probabilities (n, classes) for held-out pictures before and after."""

    card: Card
    truth: Sequence[str]
    before: Probabilities
    after: Probabilities

    def right(self, probabilities: Probabilities) -> int:
        """The number of right answers, compared by name: two classes of ImageNet share one."""
        names = [self.card.labels[guess] for guess in probabilities.argmax(axis=1)]
        return sum(name == label for name, label in zip(names, self.truth, strict=True))

    def agreement(self) -> float:
        """The share of pictures whose likeliest class is the same."""
        return float(np.mean(self.before.argmax(axis=1) == self.after.argmax(axis=1)))

    def drop(self) -> float:
        """The loss of accuracy in percentage points."""
        return 100 * (self.right(self.before) - self.right(self.after)) / len(self.truth)


@dataclass(frozen=True)
class Networks:
    """A backbone, and heads on it."""

    backbone: Network
    heads: Sequence[Network]

    def __call__(self, pixels: NDArray[np.uint8]) -> list[Probabilities]:
        """The probabilities (n, classes) of each head."""
        features = self.backbone(pixels)
        return [head(features).copy() for head in self.heads]


def compare_heads(
    cards: Sequence[Card], before: Networks, after: Networks, decoded: Decoded, found: Photographs
) -> list[Trial]:
    """Runs every head before and after, on all readable held-out pictures."""
    truth: list[str] = []
    batches: list[tuple[list[Probabilities], list[Probabilities]]] = []
    for ones, pixels in read_batches(decoded, found.splits[TEST], "Comparing with float32"):
        truth += [found.labels[one.label] for one in ones]
        batches.append((before(pixels), after(pixels)))
    by_head = zip(*(zip(*both, strict=True) for both in batches), strict=True)
    return [
        Trial(card, truth, *map(np.concatenate, zip(*pairs, strict=True)))
        for card, pairs in zip(cards, by_head, strict=True)
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
