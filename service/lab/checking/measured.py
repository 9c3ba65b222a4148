"""What each input gave on photographs, and how two inputs compare. It measures nothing itself."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from service import scores
from service.lab.checking.fields import FIELDS, Field, Value
from service.lab.data.photographs import Photograph
from service.store.card import Input, Interval

LEAST_GAP = 0.01  # In nats: the true class is 1 % less likely.


@dataclass(frozen=True)
class Score:
    """How one input did on some pictures; `loss` is scores.tempered_losses' mean, in nats."""

    images: int
    accuracy: float
    loss: float


@dataclass(frozen=True)
class Comparison:
    """Two inputs with different values of a field, on the pictures that both answered.

    `gap` is how much larger the loss of `two` is. Its interval is wider than one of 95 %, because the
    best of several is sought (Bonferroni).
    """

    field: Field
    one: Input
    two: Input
    score: Score
    other_score: Score
    gap: Interval

    @property
    def value(self) -> Value:
        """The field's value in `one`."""
        value: Value = getattr(self.one, self.field)
        return value

    @property
    def other(self) -> Value:
        """The field's value in `two`."""
        value: Value = getattr(self.two, self.field)
        return value

    def stands_out(self) -> bool:
        """Whether `value` is better than `other` by more than chance."""
        return self.gap.low is not None and self.gap.low > LEAST_GAP

    def falls_behind(self) -> bool:
        """Whether `value` is worse than `other` by more than chance."""
        return self.gap.high is not None and self.gap.high < -LEAST_GAP


@dataclass
class Measured:
    """The probabilities (classes,) that each input gave for each photograph.

    Every input has the EXIF way of `assumed`, but for those that try the other on turned pictures.
    """

    assumed: Input
    rows: dict[Input, dict[Photograph, NDArray[np.float32]]] = field(default_factory=dict)
    _known: dict[tuple[Input, tuple[Photograph, ...]], list[float]] = field(default_factory=dict)

    def add(self, one: Input, photographs: Iterable[Photograph], rows: NDArray[np.float32]) -> None:
        """Adds the probabilities (n, classes) of n photographs."""
        self.rows.setdefault(one, {}).update(zip(photographs, rows, strict=True))

    def ranked(self) -> list[Input]:
        """The inputs with the EXIF way of `assumed`, best first, and of equal ones that tried first.

        Those that answered more pictures come before others, because they were found to be better.
        """
        found = [one for one in self.rows if one.exif == self.assumed.exif]
        return sorted(
            found, key=lambda one: (-len(self.rows[one]), round(self.score(one).loss / LEAST_GAP))
        )

    def best(self, given: Collection[Field]) -> Input:
        """The best input that is as `assumed` in the fields that are given."""
        wanted: dict[str, Any] = {name: getattr(self.assumed, name) for name in given}
        return next(one for one in self.ranked() if one == one.model_copy(update=wanted))

    def score(self, one: Input) -> Score:
        """The score on all pictures that this input answered."""
        return self._score(one, list(self.rows[one]))

    def is_informed(self, one: Input) -> bool:
        """Whether it is right more often than a constant answer could be, by more than chance."""
        truth = _truth(self.rows[one])
        right = round(self.score(one).accuracy * len(truth))
        chance = np.bincount(truth).max() / len(truth)
        if chance == 1:
            return False
        test = stats.binomtest(right, len(truth), chance, alternative="greater")
        return bool(test.pvalue < 1 - scores.CONFIDENCE)

    def comparisons(self, best: Input, name: Field) -> list[Comparison]:
        """Compares `best` with each other value of a field, the others' best first.

        The other input differs in nothing else, or where that was not tried, is the best of its value.
        """
        by_value = {getattr(one, name): one for one in reversed(self.ranked())}
        twins = {getattr(one, name): one for one in self.rows if _differs_in(name, best, one)}
        others = (by_value | twins).items()
        found = [other for value, other in others if value != getattr(best, name)]
        confidence = 1 - (1 - scores.CONFIDENCE) / max(1, len(found))
        compared = [self._compare(name, best, other, confidence) for other in found]
        return sorted(compared, key=lambda one: one.gap.mean)

    def finalists(self, best: Input) -> list[Input]:
        """`best`, and what it must be told from: in each field the runner-up and what was assumed."""
        chosen = [best]
        for name in FIELDS:
            rivals = {one.other for one in self.comparisons(best, name)[:1]}
            values = rivals | {getattr(self.assumed, name)}
            chosen += [best.model_copy(update={name: value}) for value in values]
        return list(dict.fromkeys(chosen))

    def behind(self, best: Input, one: Input) -> Interval | None:
        """How much larger the loss of an input is than the best's; None without common pictures."""
        if one == best or not (common := self._common(best, one)):
            return None
        return scores.paired(self._losses(one, common), self._losses(best, common))

    def matrix(self, one: Input) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The true classes (n,) and the probabilities (n, classes) of all pictures of an input."""
        return _truth(self.rows[one]), np.stack(list(self.rows[one].values()))

    def _compare(self, name: Field, one: Input, two: Input, confidence: float) -> Comparison:
        common = self._common(one, two)
        gap = scores.paired(self._losses(two, common), self._losses(one, common), confidence)
        return Comparison(name, one, two, self._score(one, common), self._score(two, common), gap)

    def _common(self, one: Input, other: Input) -> list[Photograph]:
        return [photograph for photograph in self.rows[one] if photograph in self.rows[other]]

    def _score(self, one: Input, photographs: Sequence[Photograph]) -> Score:
        probabilities = np.stack([self.rows[one][photograph] for photograph in photographs])
        return Score(
            images=len(photographs),
            accuracy=scores.accuracy(_truth(photographs), probabilities),
            loss=float(np.mean(self._losses(one, photographs))),
        )

    def _losses(self, one: Input, photographs: Sequence[Photograph]) -> list[float]:
        key = (one, tuple(photographs))
        if key not in self._known:
            probabilities = np.stack([self.rows[one][photograph] for photograph in photographs])
            self._known[key] = scores.tempered_losses(_truth(photographs), probabilities).tolist()
        return self._known[key]


def _differs_in(name: Field, one: Input, other: Input) -> bool:
    """Whether two inputs are alike but for this field."""
    return one != other and one == other.model_copy(update={name: getattr(one, name)})


def _truth(photographs: Iterable[Photograph]) -> NDArray[np.int64]:
    return np.array([one.label for one in photographs], np.int64)
