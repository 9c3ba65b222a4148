"""One head of the study: what its card and the last report of this host know of it."""

from collections.abc import Hashable
from dataclasses import dataclass

from service.benchmark.report import MeasuredHead
from service.store.card import Card, Experiment, Interval


@dataclass(frozen=True)
class StudyRow:
    """The newest readable version of a head; figures that nobody knows are None."""

    card: Card
    measured: MeasuredHead | None = None

    @property
    def head(self) -> str:
        return self.card.head

    @property
    def experiment(self) -> Experiment | None:
        return self.card.training.experiment if self.card.training else None

    @property
    def accuracy(self) -> Interval | None:
        """Over the seeds; without interval where the card knows one number only."""
        if self.experiment:
            return self.experiment.accuracy
        if self.card.training:
            return Interval(mean=self.card.training.accuracy, low=None, high=None)
        return None

    @property
    def seconds(self) -> float | None:
        return self.card.training.seconds if self.card.training else None

    @property
    def parameters(self) -> int:
        """Of backbone and head together."""
        return self.card.backbone.parameters + self.card.structure.parameters

    @property
    def model_mb(self) -> float | None:
        return self.card.model_bytes / 1e6 if self.card.model_bytes else None

    @property
    def latency_ms(self) -> float | None:
        """The median of single pictures."""
        rows = self.measured.latency if self.measured else ()
        return next((row.p50_ms for row in rows if row.batch_size == 1), None)

    @property
    def resident_mb(self) -> float | None:
        return self.measured.memory.resident_mb if self.measured else None

    def shifted(self, pixels: int) -> float | None:
        """Accuracy on test pictures moved by so many pixels."""
        shifts = self.experiment.shifts if self.experiment else ()
        return next((shift.accuracy for shift in shifts if shift.pixels == pixels), None)


@dataclass(frozen=True)
class Candidate:
    """A row whose head has an experiment."""

    row: StudyRow
    experiment: Experiment

    @property
    def head(self) -> str:
        return self.row.head

    @property
    def pictures(self) -> Hashable:
        """Equal where scores may be compared picture by picture."""
        return self.experiment.data, self.experiment.truth
