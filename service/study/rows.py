"""One head of the study: its card, and its figures in the last report of this host."""

from collections.abc import Hashable
from dataclasses import dataclass

from service.benchmark.report import MeasuredHead
from service.store.card import Card, Experiment, Interval


@dataclass(frozen=True)
class StudyRow:
    """The newest readable version of a head; unknown figures are None."""

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
        """The accuracy over seeds; without interval if the card has a single number."""
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
        """The parameters of backbone and head together."""
        return self.card.backbone.parameters + self.card.structure.parameters

    @property
    def model_mb(self) -> float | None:
        return self.card.source.bytes / 1e6 if self.card.source.bytes else None

    @property
    def latency_ms(self) -> float | None:
        """The median latency of single pictures."""
        rows = self.measured.latency if self.measured else ()
        return next((row.p50_ms for row in rows if row.batch_size == 1), None)

    @property
    def resident_mb(self) -> float | None:
        return self.measured.memory.resident_mb if self.measured else None

    def shifted(self, pixels: int) -> float | None:
        """The accuracy on test pictures moved by `pixels`."""
        shifts = self.experiment.shifts if self.experiment else ()
        return next((shift.accuracy for shift in shifts if shift.pixels == pixels), None)


@dataclass(frozen=True)
class Candidate:
    """A row of a head that was trained by an experiment."""

    row: StudyRow
    experiment: Experiment

    @property
    def head(self) -> str:
        return self.row.head

    @property
    def pictures(self) -> Hashable:
        """A key that is equal for heads whose scores may be compared picture by picture."""
        return self.experiment.data, self.experiment.truth
