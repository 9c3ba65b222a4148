"""Scores of predictions, and statistical comparisons of two heads."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn import metrics

from service.store.card import Interval

CALIBRATION_BINS = 15
CONFIDENCE = 0.95
MAX_TEMPERATURE = 256
TINY = float(np.finfo(np.float32).tiny)

Classes = NDArray[np.int64]
Probabilities = NDArray[np.float32]


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean and interval (95 %) by Student's t; one value has no interval."""
    mean = float(np.mean(values))
    if len(values) < 2:  # noqa: PLR2004 (no spread)
        return Interval(mean=mean, low=None, high=None)
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean=mean, low=mean - half, high=mean + half)


def accuracy(truth: Classes, probabilities: Probabilities) -> float:
    """The share of pictures whose likeliest class is the true one."""
    return float(np.mean(probabilities.argmax(axis=1) == truth))


def top(k: int, truth: Classes, probabilities: Probabilities) -> float:
    """The share of pictures whose true class is among the `k` likeliest."""
    likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float(np.mean((likeliest == truth[:, np.newaxis]).any(axis=1)))


def macro_f1(truth: Classes, predicted: Classes, classes: int) -> float:
    """The mean over classes of the harmonic mean of precision and recall; 0 where both are 0."""
    return float(
        metrics.f1_score(truth, predicted, labels=range(classes), average="macro", zero_division=0)
    )


def log_loss(truth: Classes, probabilities: Probabilities) -> float:
    """The mean of -ln of the true class's probability, in nats."""
    return float(metrics.log_loss(truth, probabilities, labels=range(probabilities.shape[1])))


def tempered_losses(truth: Classes, probabilities: Probabilities) -> NDArray[np.float64]:
    """-ln of the true class's probability of each picture, (n,), in nats, at the best temperature.

    Of the temperatures from 1 to 256, by which all answers may be softened alike (Guo et al. 2017,
    section 4.2), it is the one with the least mean. So a network that is right more often than another
    does not lose for being too sure of itself.
    """
    logits = np.log(np.nan_to_num(probabilities).clip(TINY)).astype(np.float64)
    rows = np.arange(len(truth))

    def losses(inverse: float) -> NDArray[np.float64]:
        at_this: NDArray[np.float64] = -log_softmax(inverse * logits, axis=1)[rows, truth]
        return at_this

    # Their mean is convex in the inverse of the temperature.
    found = minimize_scalar(
        lambda at: losses(at).mean(), bounds=(1 / MAX_TEMPERATURE, 1), method="bounded"
    )
    return min(losses(float(found.x)), losses(1), key=np.mean)


def confusion(truth: Classes, predicted: Classes, classes: int) -> tuple[tuple[int, ...], ...]:
    """How often each true class (rows) was predicted as each class (columns)."""
    matrix = metrics.confusion_matrix(truth, predicted, labels=range(classes))
    return tuple(tuple(map(int, row)) for row in matrix)


def calibration_error(truth: Classes, probabilities: Probabilities) -> float:
    """Expected calibration error: over bins of confidence, the mean of |accuracy - confidence|.

    15 bins of equal width, open on the left, weighed by their pictures (Guo et al. 2017, eq. 3).
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    is_right = probabilities.argmax(axis=1) == truth
    bins = np.ceil(confidence * CALIBRATION_BINS).astype(int)
    gaps = [
        abs(is_right[bins == bin_].mean() - confidence[bins == bin_].mean()) * np.mean(bins == bin_)
        for bin_ in np.unique(bins)
    ]
    return float(sum(gaps))


def mcnemar(ones_right: NDArray[np.bool_], others_right: NDArray[np.bool_]) -> float:
    """The exact two-sided p-value of McNemar's test that two heads are right equally often.

    It is a binomial test on the pictures that only one of them gets right; 1 if there are none.
    """
    only_one = int(np.sum(ones_right & ~others_right))
    only_other = int(np.sum(others_right & ~ones_right))
    if only_one + only_other == 0:
        return 1.0
    return float(stats.binomtest(only_one, only_one + only_other).pvalue)


def paired(ones: Sequence[float], others: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean and interval of the differences of paired values, such as accuracies by seed."""
    return interval([one - other for one, other in zip(ones, others, strict=True)], confidence)
