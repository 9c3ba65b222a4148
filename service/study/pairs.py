"""Statistical comparisons of each pair of heads, in one sentence per pair."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service import scores
from service.store.card import Experiment, Interval
from service.study.rows import Candidate

SIGNIFICANT = 0.05
MIN_SEEDS = 2  # One seed alone has no interval.


@dataclass(frozen=True)
class Pair:
    """Two heads, of which `better` is right at least as often; `difference` is a share of the pictures.

    A difference with an interval is paired by seed; one without is that of one training each. `p` is
    McNemar's, by picture, on the published weights.
    """

    better: str
    worse: str
    difference: Interval
    seeds: int
    p: float

    @property
    def is_different(self) -> bool:
        """Whether chance in seeds and in test pictures does not explain the difference.

        The interval by seed, if there is one, must exclude 0, and McNemar's test by picture must be
        significant.
        """
        low = self.difference.low
        return self.p < SIGNIFICANT and (low is None or low > 0)

    def __str__(self) -> str:
        told = f"right on {points(self.difference.mean)} points more pictures than {self.worse}"
        if self.is_different:
            return f"{self.better} is {told} ({self._grounds()})."
        names = " and ".join(sorted((self.better, self.worse)))
        return f"{names}: no difference was found ({self.better} was {told}; {self._grounds()})."

    def _grounds(self) -> str:
        told = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"  # noqa: PLR2004 (as printed)
        if self.difference.low is None or self.difference.high is None:
            return f"by picture {told}; one training of each, so the chance in training is not counted"
        low, high = points(self.difference.low), points(self.difference.high)
        return f"95 % interval {low} to {high} over {self.seeds} seeds; by picture {told}"


def pairs(tested: Sequence[Candidate]) -> list[Pair]:
    """Compares each two heads that were tested on the same pictures."""
    return [
        _pair(one, other)
        for one, other in itertools.combinations(tested, 2)
        if one.pictures == other.pictures
    ]


def notes(tested: Sequence[Candidate]) -> list[str]:
    """Notes on reading the sentences: the number of comparisons, and the heads that are not compared."""
    told = []
    if found := pairs(tested):
        told.append(
            f"Pairs compared: {len(found)}. Neither intervals nor p are corrected for their number: "
            "of 20 pairs of equal heads about one would show a difference by chance."
        )
        told.append("By picture: McNemar's exact test on the answers of the published weights.")
    heads_by_pictures: dict[object, list[str]] = {}
    for one in tested:
        heads_by_pictures.setdefault(one.pictures, []).append(one.head)
    if len(heads_by_pictures) > 1:
        groups = " | ".join(", ".join(heads) for heads in heads_by_pictures.values())
        told.append(f"Not comparable, because their pictures or splits differ: {groups}.")
    return told


def points(share: float) -> str:
    """Formats a share as percentage points; never "-0.0"."""
    return f"{round(100 * share, 1) + 0.0:.1f}"


def _pair(one: Candidate, other: Candidate) -> Pair:
    difference, seeds = _difference(one.experiment, other.experiment)
    p = scores.mcnemar(_right(one.experiment), _right(other.experiment))
    if difference.mean >= 0:
        return Pair(one.head, other.head, difference, seeds, p)
    return Pair(other.head, one.head, _negated(difference), seeds, p)


def _difference(one: Experiment, other: Experiment) -> tuple[Interval, int]:
    """The difference paired by seed if both have the same two or more, else of published weights."""
    ones, others = ({run.seed: run.accuracy for run in e.runs} for e in (one, other))
    if ones.keys() != others.keys() or len(ones) < MIN_SEEDS:
        mean = float(_right(one).mean() - _right(other).mean())
        return Interval(mean=mean, low=None, high=None), 1
    return scores.paired([*ones.values()], [others[seed] for seed in ones]), len(ones)


def _negated(interval: Interval) -> Interval:
    low, high = (None if end is None else -end for end in (interval.high, interval.low))
    return Interval(mean=-interval.mean, low=low, high=high)


def _right(experiment: Experiment) -> NDArray[np.bool_]:
    return np.equal(experiment.predicted, experiment.truth)
