"""The study's tables as rows of text, for the terminal and the page."""

from dataclasses import dataclass

from service.store.card import Interval
from service.study.pairs import points
from service.study.road import Road
from service.study.rows import StudyRow
from service.study.study import Study

UNKNOWN = "-"


@dataclass(frozen=True)
class Figures:
    """A table; every row has as many cells as `names`."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def of_heads(study: Study) -> Figures:
    """The table of heads, one row each."""
    shifts = [f"shifted {pixels} px %" for pixels in study.shifts]
    costs = ("train s", "parameters", "in the head", "model MB", "resident MB", "p50 ms")
    return Figures(
        names=("head", "best", "accuracy %", "95 % interval", *shifts, *costs),
        rows=tuple(_head(row, study) for row in study.rows),
    )


def of_road(road: Road) -> Figures:
    """The table of a pooling road, one row a stop, from Flatten to GAP."""
    return Figures(
        names=("pooling road", "filter", "cells", "accuracy %", "95 % interval", "in the head"),
        rows=tuple(
            (
                stop.candidate.head,
                f"{stop.filter_side}x{stop.filter_side}",
                f"{stop.cells}x{stop.cells}",
                *accuracy_cells(stop.candidate.experiment.accuracy),
                f"{stop.candidate.row.card.structure.parameters:,}",
            )
            for stop in road
        ),
    )


def accuracy_cells(interval: Interval | None) -> tuple[str, str]:
    """The cells for an accuracy: the mean and the interval, in percent."""
    if interval is None:
        return UNKNOWN, UNKNOWN
    mean = points(interval.mean)
    if interval.low is None or interval.high is None:
        return mean, UNKNOWN
    return mean, f"{points(interval.low)} to {points(interval.high)}"


def _head(row: StudyRow, study: Study) -> tuple[str, ...]:
    shifted = [row.shifted(pixels) for pixels in study.shifts]
    return (
        f"{row.head} v{row.card.version}",
        "*" if row.head in study.best else "",
        *accuracy_cells(row.accuracy),
        *(UNKNOWN if share is None else points(share) for share in shifted),
        _number(row.seconds, 0),
        f"{row.parameters:,}",
        f"{row.card.structure.parameters:,}",
        _number(row.model_mb),
        _number(row.resident_mb),
        _number(row.latency_ms),
    )


def _number(value: float | None, digits: int = 1) -> str:
    return UNKNOWN if value is None else f"{value:.{digits}f}"
