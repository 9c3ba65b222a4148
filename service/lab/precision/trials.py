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

Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class Trial:
    """A head, and its probabilities (n, classes) for held-out pictures with both backbones."""

    card: Card
    truth: Sequence[str]
    before: Probabilities
    after: Probabilities

    def right(self, probabilities: Probabilities) -> int:
        """The number of right answers, compared by name: two classes of ImageNet share one."""
        names = [self.card.labels[guess] for guess in probabilities.argmax(axis=1)]
        return sum(name == label for name, label in zip(names, self.truth, strict=True))

    def agreement(self) -> float:
        """The share of pictures whose likeliest class is the same with both."""
        return float(np.mean(self.before.argmax(axis=1) == self.after.argmax(axis=1)))

    def drop(self) -> float:
        """The loss of accuracy in percentage points."""
        return 100 * (self.right(self.before) - self.right(self.after)) / len(self.truth)


def compare_heads(
    cards: Sequence[Card],
    heads: Sequence[Network],
    backbones: tuple[Network, Network],
    decoded: Decoded,
    found: Photographs,
) -> list[Trial]:
    """Runs every head on both backbones, on all readable held-out pictures."""
    truth: list[str] = []
    answers: list[tuple[list[Probabilities], list[Probabilities]]] = [([], []) for _ in heads]
    for ones, pixels in read_batches(decoded, found.splits[TEST], "Comparing with float32"):
        truth += [found.labels[one.label] for one in ones]
        for at, backbone in enumerate(backbones):
            features = backbone(pixels)
            for of_head, head in zip(answers, heads, strict=True):
                of_head[at].append(head(features).copy())
    return [
        Trial(card, truth, *map(np.concatenate, of_head))
        for card, of_head in zip(cards, answers, strict=True)
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
