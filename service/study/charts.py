"""The charts of the page as series of points. Accuracies are in percent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.store.card import Epoch, Interval
from service.study.road import Road
from service.study.rows import Candidate, StudyRow

ACCURACY = "accuracy, %"


@dataclass(frozen=True)
class Point:
    """A point; `low` to `high` is the 95 % interval of `y`, if there is one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """A series of points; `head` determines its colour, and is None for a series of several heads."""

    name: str
    head: str | None
    points: tuple[Point, ...]
    is_line: bool = True
    is_dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart of series; `x` and `y` are the axes' labels, with units."""

    title: str
    x: str
    y: str
    series: tuple[Series, ...]


def of(tested: Sequence[Candidate], roads: Sequence[Road]) -> list[Chart]:
    """The charts that have at least one point."""
    charts = [
        _against("latency", "p50 of single pictures, ms", tested, lambda row: row.latency_ms),
        _against("memory", "resident, MB", tested, lambda row: row.resident_mb),
        Chart("Learning curves: loss", "epoch", "cross-entropy, nats", _losses(tested)),
        Chart("Learning curves: accuracy on validation pictures", "epoch", ACCURACY, _learning(tested)),
        Chart(
            "Accuracy and the size of the training set", "pictures of a class", ACCURACY, _sizes(tested)
        ),
        Chart("Accuracy on shifted pictures", "pixels", ACCURACY, _shifts(tested)),
        *(_road(road) for road in roads),
    ]
    return [chart for chart in charts if any(series.points for series in chart.series)]


def _against(
    what: str, axis: str, tested: Sequence[Candidate], figure: Callable[[StudyRow], float | None]
) -> Chart:
    series = tuple(
        Series(one.head, one.head, (_accuracy(x, one.experiment.accuracy),), is_line=False)
        for one in tested
        if (x := figure(one.row)) is not None
    )
    return Chart(f"Accuracy against {what}", axis, ACCURACY, series)


def _losses(tested: Sequence[Candidate]) -> tuple[Series, ...]:
    def series(one: Candidate, which: str, loss: Callable[[Epoch], float]) -> Series:
        epochs = enumerate(one.experiment.learning_curve, 1)
        points = tuple(Point(number, loss(epoch)) for number, epoch in epochs)
        return Series(f"{one.head} {which}", one.head, points, is_dashed=which == "training")

    return tuple(
        drawn
        for one in tested
        for drawn in (
            series(one, "training", lambda epoch: epoch.train_loss),
            series(one, "validation", lambda epoch: epoch.validation_loss),
        )
    )


def _learning(tested: Sequence[Candidate]) -> tuple[Series, ...]:
    return tuple(
        Series(
            one.head,
            one.head,
            tuple(
                Point(number, 100 * epoch.validation_accuracy)
                for number, epoch in enumerate(one.experiment.learning_curve, 1)
            ),
        )
        for one in tested
    )


def _sizes(tested: Sequence[Candidate]) -> tuple[Series, ...]:
    return tuple(
        Series(
            one.head,
            one.head,
            tuple(_accuracy(size.images_per_class, size.accuracy) for size in one.experiment.sizes),
        )
        for one in tested
        if one.experiment.sizes
    )


def _shifts(tested: Sequence[Candidate]) -> tuple[Series, ...]:
    return tuple(
        Series(
            one.head,
            one.head,
            tuple(Point(shift.pixels, 100 * shift.accuracy) for shift in one.experiment.shifts),
        )
        for one in tested
        if one.experiment.shifts
    )


def _road(road: Road) -> Chart:
    """Average poolings as one line; Flatten and GAP, its two ends, as single points."""
    points = [(stop, _accuracy(stop.filter_side, stop.candidate.experiment.accuracy)) for stop in road]
    line = Series("average pooling", None, tuple(point for stop, point in points if stop.is_average))
    ends = (
        Series(stop.candidate.head, stop.candidate.head, (point,), is_line=False)
        for stop, point in points
        if not stop.is_average
    )
    side = road[0].filter_side + road[0].cells - 1
    axis = f"side of the filter: 1 is Flatten, {side} is GAP"
    return Chart("The pooling road", axis, ACCURACY, (line, *ends))


def _accuracy(x: float, interval: Interval) -> Point:
    low, high = (None if end is None else 100 * end for end in (interval.low, interval.high))
    return Point(x, 100 * interval.mean, low, high)
