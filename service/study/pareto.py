"""The Pareto-optimal heads: no other is as good in all figures and better in one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.study.rows import Candidate

Figures = tuple[float, ...]  # Higher is better for each figure.


@dataclass(frozen=True)
class Pareto:
    """The Pareto-optimal heads; `note` names the figures used, and tested heads without them."""

    best: frozenset[str]
    note: str


def pareto(tested: Sequence[Candidate]) -> Pareto:
    """Judges by accuracy, latency and memory if any head has all three, else by accuracy and parameters.

    Each head is compared with heads that were tested on the same pictures.
    """
    is_measured = any(_by_cost(one) for one in tested)
    figures, judged_by = (
        (_by_cost, "accuracy, latency and memory")
        if is_measured
        else (_by_size, "accuracy and parameters, for no report has latency and memory of these heads")
    )
    note = f"* Pareto-best among heads tested on the same pictures, by {judged_by}."
    if left_out := [one.head for one in tested if not figures(one)]:
        note += (
            f" Not judged, because the report has no figures of their version: {', '.join(left_out)}."
        )
    return Pareto(frozenset(one.head for one in tested if _is_best(one, tested, figures)), note)


def _is_best(
    one: Candidate, tested: Sequence[Candidate], figures: Callable[[Candidate], Figures | None]
) -> bool:
    mine = figures(one)
    rivals = [figures(other) for other in tested if other.pictures == one.pictures]
    return mine is not None and not any(theirs and _dominates(theirs, mine) for theirs in rivals)


def _dominates(ones: Figures, others: Figures) -> bool:
    return ones != others and all(one >= other for one, other in zip(ones, others, strict=True))


def _by_cost(one: Candidate) -> Figures | None:
    latency_ms, resident_mb = one.row.latency_ms, one.row.resident_mb
    if latency_ms is None or resident_mb is None:
        return None
    return one.experiment.accuracy.mean, -latency_ms, -resident_mb


def _by_size(one: Candidate) -> Figures:
    return one.experiment.accuracy.mean, -one.row.parameters
