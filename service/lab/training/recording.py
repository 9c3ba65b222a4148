"""Builds the training record in the cards from the heads' answers on the test split."""

import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from service import scores
from service.lab.data.photographs import TRAIN, VALIDATION, Photographs
from service.lab.training.fitting import Fit, Fitted
from service.store.card import Experiment, SeedRun, Shift, SizePoint, Training

TOP = 5


@dataclass(frozen=True)
class Studied:
    """One head trained from every seed, and again with fewer pictures per class."""

    fitted: Fitted
    fewer: Mapping[int, Sequence[Fit]]

    def fits(self) -> list[Fit]:
        """All fits; those on all pictures come first."""
        return [*self.fitted.fits, *chain(*self.fewer.values())]


@dataclass(frozen=True)
class Scored:
    """Probabilities on the test split, (n, classes): of all `Studied.fits()`; of the best by shift."""

    truth: NDArray[np.int64]
    by_fit: Sequence[NDArray[np.float32]]
    shifted: Mapping[int, NDArray[np.float32]]


def record(
    data: Photographs, backbone: str, features_seconds: float, studied: Studied, scored: Scored
) -> Training:
    """The training record of the fit with the lowest validation loss."""
    fits, truth = studied.fitted.fits, scored.truth
    best = studied.fitted.best
    accuracies = [scores.accuracy(truth, probabilities) for probabilities in scored.by_fit]
    own = scored.by_fit[fits.index(best)]
    predicted = own.argmax(axis=1)
    of_fewer = iter(accuracies[len(fits) :])
    experiment = Experiment(
        data=data.digest(),
        backbone=backbone,
        fine_tuned_stages=studied.fitted.tuned_stages,
        learning_rate=best.learning_rate,
        weight_decay=best.weight_decay,
        runs=tuple(map(_run, fits, accuracies)),
        accuracy=scores.interval(accuracies[: len(fits)]),
        top5=scores.top(TOP, truth, own),
        macro_f1=scores.macro_f1(truth, predicted, len(data.labels)),
        log_loss=scores.log_loss(truth, own),
        calibration_error=scores.calibration_error(truth, own),
        truth=tuple(truth.tolist()),
        predicted=tuple(predicted.tolist()),
        confusion=scores.confusion(truth, predicted, len(data.labels)),
        learning_curve=best.curve,
        shifts=tuple(
            Shift(
                pixels=pixels,
                accuracy=scores.accuracy(truth, probabilities),
                agreement=scores.accuracy(predicted, probabilities),
            )
            for pixels, probabilities in scored.shifted.items()
        ),
        sizes=tuple(
            SizePoint(images_per_class=size, accuracy=scores.interval([next(of_fewer) for _ in fits]))
            for size, fits in studied.fewer.items()
        ),
        features_seconds=features_seconds,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    )
    return Training(
        images_train=len(data.splits[TRAIN]),
        images_validation=len(data.splits[VALIDATION]),
        images_test=len(truth),
        seed=best.seed,
        seconds=studied.fitted.seconds,
        accuracy=scores.accuracy(truth, own),
        experiment=experiment,
    )


def _run(fit: Fit, accuracy: float) -> SeedRun:
    return SeedRun(
        seed=fit.seed, epochs=len(fit.curve), validation_loss=fit.validation_loss, accuracy=accuracy
    )
