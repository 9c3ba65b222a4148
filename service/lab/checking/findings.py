"""Decides from what was measured, and says it in sentences for people and for cards."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from service.lab.checking.fields import FIELDS, Field, Value
from service.lab.checking.measured import Comparison, Measured, Score
from service.store.card import Exif, Input, Preprocessing

# A matching of labels that fits best must be right so often, and so much more often than the labels are.
LEAST_FIT, LEAST_GAIN, LEAST_IMAGES_PER_CLASS = 2 / 3, 0.3, 3
SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Finding:
    """What was found out about one field of an input.

    taken: another value than the assumed one is better. confirmed: the assumed one is the best. open:
    none stands out. doubted: another is better than the one that was given, which holds all the same.
    """

    field: Field
    kind: Literal["taken", "confirmed", "open", "doubted"]
    value: Value
    closest: Comparison
    assumed: Comparison

    def sentence(self, was: str) -> str:
        """The finding with its figures; `was` is whose value it began with: "the assumed"."""
        images = self.closest.score.images
        where = f"on {images} turned pictures" if self.field == "exif" else f"on {images} pictures"
        return f"{where}: {self._finding(was)}"

    def _finding(self, was: str) -> str:
        name = "EXIF" if self.field == "exif" else self.field
        closest, begun = self.closest, self.assumed
        mine, other = _figures(closest.score), f"{told(closest.other)} {_figures(closest.other_score)}"
        match self.kind:
            case "confirmed":
                return f"{name} {told(self.value)} stands out: {mine}, next {other}"
            case "taken":
                rival = "next" if closest.stands_out() else "about as good"
                also = "" if closest.other == begun.other else f"; {rival} {other}"
                return (
                    f"{name} {told(self.value)} is better than {was} {told(begun.other)}: "
                    f"{_figures(begun.score)}, {_figures(begun.other_score)}{also}"
                )
            case "open":
                return (
                    f"no {name} stands out, so {was} {told(self.value)} holds: "
                    f"{told(begun.value)} {_figures(begun.score)}, "
                    f"{told(begun.other)} {_figures(begun.other_score)}"
                )
            case "doubted":
                return (
                    f"warning: {name} {told(closest.other)} is better than the given "
                    f"{told(self.value)}: {_figures(closest.other_score)}, {mine}"
                )


@dataclass(frozen=True)
class Decision:
    """The input to use, and what is known of it. `hints` are on what no input explains."""

    chosen: Input
    images: int
    findings: tuple[Finding, ...]
    hints: tuple[str, ...]

    def settled(self) -> dict[str, Any]:
        """The fields that need not be assumed any longer, with their values.

        EXIF is one wherever it was measured: what holds then must not change with the resize.
        """
        kinds = ("taken", "confirmed")
        return {
            one.field: one.value for one in self.findings if one.kind in kinds or one.field == "exif"
        }

    def sentences(self, was: str) -> list[str]:
        """All of it."""
        hints = (f"on {self.images} pictures: {hint}" for hint in self.hints)
        return [*(one.sentence(was) for one in self.findings), *hints]


def decide(measured: Measured, labels: Sequence[str], given: Collection[Field]) -> Decision:
    """Takes the best value of each field where it is better than the assumed one by more than chance.

    A field in `given` keeps its value. So do all where no answer is better than chance.
    """
    best, first = measured.best(given), measured.ranked()[0]
    findings: list[Finding] = []
    hints = list(_reordered(measured, labels))
    if measured.is_informed(first):
        findings = [one for name in FIELDS for one in _findings(measured, best, name, name in given)]
    else:
        hints.append(
            "no way to prepare the pixels makes the answers better than chance (at best "
            f"{_figures(measured.score(first))}): are these pictures of the model's classes?"
        )
        hints.extend(_mostly_turned(measured))
    taken: dict[str, Value] = {one.field: one.value for one in findings if one.kind == "taken"}
    return Decision(
        chosen=measured.assumed.model_copy(update=taken),
        images=measured.score(best).images,
        findings=tuple(findings),
        hints=tuple(hints),
    )


def told(value: Value) -> str:
    """A value in a few words."""
    if isinstance(value, Preprocessing) and value.name is None and value.order == "bgr":
        name = value.model_copy(update={"order": "rgb"}).name
        return f"{name} in BGR" if name else str(value)
    return str(value)


def _findings(measured: Measured, best: Input, name: Field, is_given: bool) -> Iterator[Finding]:
    others = measured.comparisons(best, name)
    if not others:
        return
    closest, value = others[0], getattr(measured.assumed, name)
    if name == "exif" and not is_given and closest.falls_behind():
        # The best was ranked with EXIF as assumed: where the other way is better, that is the best.
        best = best.model_copy(update={name: closest.other})
        closest = measured.comparisons(best, name)[0]
        others = [closest]
    if is_given:
        if closest.falls_behind():
            yield Finding(name, "doubted", value, closest, closest)
        return
    begun = next((one for one in others if one.other == value), closest)
    is_better = begun.stands_out() and measured.is_informed(best)
    if getattr(best, name) == value:
        yield Finding(name, "confirmed" if is_better else "open", value, closest, closest)
    elif is_better:
        yield Finding(name, "taken", begun.value, closest, begun)
    else:
        yield Finding(name, "open", value, closest, begun)


def _mostly_turned(measured: Measured) -> Iterator[str]:
    """A sentence if EXIF turns most pictures: the best was sought with EXIF as assumed."""
    assumed = measured.assumed
    other: Exif = "applied" if assumed.exif == "ignored" else "ignored"
    turned = {photo for one, rows in measured.rows.items() if one.exif == other for photo in rows}
    if 2 * len(turned) > measured.score(assumed).images:
        yield f"EXIF turns most of these pictures, with EXIF {assumed.exif}: try --exif {other} too"


def _reordered(measured: Measured, labels: Sequence[str]) -> Iterator[str]:
    """A sentence if the answers would fit far better with the labels in another order."""
    inputs = measured.ranked()
    fits = [_fit(*measured.matrix(one), len(labels)) for one in inputs]
    share, truth, answer = max(fits)
    most_right = max(measured.score(one).accuracy for one in inputs)
    if share >= LEAST_FIT and share - most_right >= LEAST_GAIN:
        first, second = (repr(labels[at][:SHOWN_CHARACTERS]) for at in (truth, answer))
        yield (
            f"warning: the labels seem to be in another order, as pictures of {first} are answered "
            f"{second}; in the order that fits best {share:.1%} would be right"
        )


def _fit(
    truth: NDArray[np.int64], probabilities: NDArray[np.float32], classes: int
) -> tuple[float, int, int]:
    """The share that would be right in the order of labels that fits best, and a label that moves there.

    The share is 0 where there are too few pictures of each class to say.
    """
    if len(truth) < LEAST_IMAGES_PER_CLASS * len(np.unique(truth)):
        return 0.0, 0, 0
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (truth, probabilities.argmax(axis=1)), 1)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    moved = np.where(rows == columns, 0, counts[rows, columns]).argmax()
    return counts[rows, columns].sum() / len(truth), int(rows[moved]), int(columns[moved])


def _figures(score: Score) -> str:
    return f"{100 * score.accuracy:.1f} % right (log loss {score.loss:.2f})"
