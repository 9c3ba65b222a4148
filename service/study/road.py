"""The pooling road: from Flatten to GAP by average pooling at stride 1 with growing filters.

A filter of side 1 leaves the map as it is (Flatten); one of the map's side leaves one cell (GAP).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from service.study.rows import Candidate


@dataclass(frozen=True)
class Stop:
    """A head on the road; its filter leaves `cells` x `cells` of the map."""

    candidate: Candidate
    filter_side: int
    cells: int

    @property
    def is_average(self) -> bool:
        """Whether the head pools by average windows; the two ends use Flatten or GAP instead."""
        return self.candidate.row.card.structure.pooling == "average"


Road = tuple[Stop, ...]


def roads(tested: Sequence[Candidate]) -> list[Road]:
    """The roads of two or more heads that differ only in pooling; stops are sorted by filter."""
    stops = [stop for one in tested if (stop := _stop(one))]
    found = []
    for key in dict.fromkeys(_else(stop.candidate) for stop in stops):
        road = sorted(
            (stop for stop in stops if _else(stop.candidate) == key),
            key=lambda stop: (stop.filter_side, stop.is_average),
        )
        if len(road) > 1 and any(stop.is_average for stop in road):
            found.append(tuple(road))
    return found


def _else(one: Candidate) -> Hashable:
    """The properties that must be equal for heads of one road."""
    card, experiment = one.row.card, one.experiment
    return (
        one.pictures,
        card.input,
        card.backbone.feature_shape,
        card.structure.hidden_units,
        experiment.backbone,
        experiment.fine_tuned_stages,
    )


def _stop(one: Candidate) -> Stop | None:
    height, width, _ = one.row.card.backbone.feature_shape
    structure = one.row.card.structure
    match structure.pooling:
        case "flatten":
            sides = (1, 1)
        case "gap":
            sides = (height, width)
        case "average" if structure.stride == (1, 1) and structure.filter:
            sides = structure.filter
        case _:
            return None
    if height != width or sides[0] != sides[1]:
        return None
    return Stop(one, sides[0], height - sides[0] + 1)
