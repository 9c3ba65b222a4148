"""Each score against scikit-learn, scipy, or numbers computed by hand."""

import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics

from service import scores

CLASSES = 7


@pytest.fixture
def answered():
    """300 pictures of 7 classes and a classifier that is often, not always, right."""
    rng = np.random.default_rng(4)
    truth = rng.integers(0, CLASSES, 300)
    logits = rng.normal(size=(300, CLASSES)) + 2 * np.eye(CLASSES)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return truth, probabilities.astype(np.float32)


def test_accuracy_and_top_k_are_scikit_learns(answered):
    truth, probabilities = answered
    assert scores.accuracy(truth, probabilities) == metrics.accuracy_score(
        truth, probabilities.argmax(axis=1)
    )
    for k in (1, 2, 5):
        assert scores.top(k, truth, probabilities) == pytest.approx(
            metrics.top_k_accuracy_score(truth, probabilities, k=k)
        )


def test_with_fewer_classes_than_k_every_picture_is_in_the_top_k():
    assert scores.top(5, np.array([0, 1]), np.array([[0.1, 0.9], [0.9, 0.1]], np.float32)) == 1


def test_macro_f1_is_the_mean_of_each_classs_own(answered):
    truth, probabilities = answered
    predicted = probabilities.argmax(axis=1)
    f1 = []
    for label in range(CLASSES):
        hits = np.sum((truth == label) & (predicted == label))
        f1.append(2 * hits / (np.sum(truth == label) + np.sum(predicted == label)))
    assert scores.macro_f1(truth, predicted, CLASSES) == pytest.approx(np.mean(f1))


def test_a_class_that_is_never_right_has_an_f1_of_0():
    assert scores.macro_f1(np.array([0, 0, 1]), np.array([0, 0, 0]), 2) == pytest.approx(0.8 / 2)


def test_log_loss_is_the_mean_of_minus_ln_p(answered):
    truth, probabilities = answered
    by_hand = -np.log(probabilities[np.arange(300), truth].astype(np.float64)).mean()
    assert scores.log_loss(truth, probabilities) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("sureness", [0.3, 1, 3, 30])
def test_tempered_losses_are_those_at_the_best_temperature(answered, sureness):
    truth, probabilities = answered
    logits = sureness * np.log(probabilities.astype(np.float64))
    surer = special.softmax(logits, axis=1).astype(np.float32)
    seen = np.log(surer.astype(np.float64).clip(np.finfo(np.float32).tiny))
    by_hand = [
        metrics.log_loss(truth, special.softmax(seen / one, axis=1), labels=range(CLASSES))
        for one in np.geomspace(1, 256, 500)
    ]
    losses = scores.tempered_losses(truth, surer)
    assert losses.mean() == pytest.approx(min(by_hand), abs=1e-3)
    assert losses.mean() <= scores.log_loss(truth, surer) + 1e-6


def test_who_is_too_sure_loses_nothing_for_it_and_who_knows_nothing_does_not_win(answered):
    truth, probabilities = answered
    surer = special.softmax(40 * np.log(probabilities.astype(np.float64)), axis=1).astype(np.float32)
    nothing = np.full_like(surer, 1 / CLASSES)
    assert scores.log_loss(truth, surer) > scores.log_loss(truth, nothing)
    assert scores.tempered_losses(truth, surer).mean() < np.log(CLASSES) - 0.3
    assert scores.tempered_losses(truth, nothing) == pytest.approx(np.log(CLASSES))


def test_tempered_losses_stand_zeros_and_what_is_no_number():
    probabilities = np.array([[1, 0], [0, 1], [np.nan, np.nan]], np.float32)
    assert np.isfinite(scores.tempered_losses(np.array([0, 0, 1]), probabilities)).all()


def test_an_interval_is_wider_with_more_confidence():
    values = [1.0, 2, 3, 5]
    low, high = stats.t.interval(0.99, 3, np.mean(values), stats.sem(values))
    wide = scores.interval(values, 0.99)
    assert (wide.low, wide.high) == pytest.approx((low, high))


def test_log_loss_knows_classes_that_do_not_occur():
    assert scores.log_loss(np.array([0, 0]), np.full((2, 4), 0.25, np.float32)) == pytest.approx(
        np.log(4)
    )


def test_the_confusion_matrix_has_truth_in_rows():
    assert scores.confusion(np.array([0, 0, 0, 2]), np.array([0, 1, 1, 2]), 3) == (
        (1, 2, 0),
        (0, 0, 0),
        (0, 0, 1),
    )


def test_the_calibration_error_weighs_the_gap_of_each_bin():
    """4 pictures at 0.85, 2 of them right, are 0.35 off; so is a right one at 0.65, in another bin."""
    probabilities = np.array([[0.85, 0.15]] * 4 + [[0.35, 0.65]], np.float32)
    truth = np.array([0, 0, 1, 1, 1])
    assert scores.calibration_error(truth, probabilities) == pytest.approx(
        (4 * 0.35 + 1 * 0.35) / 5, abs=1e-6
    )


def test_confidence_that_is_kept_is_no_error():
    probabilities = np.array([[0.75, 0.25]] * 4, np.float32)
    assert scores.calibration_error(np.array([0, 0, 0, 1]), probabilities) == pytest.approx(0)


def test_an_interval_is_students():
    """Three values, t = 4.303 for two degrees of freedom: 0.6 +- 4.303 * 0.1 / sqrt(3)."""
    told = scores.interval([0.5, 0.6, 0.7])
    assert (told.mean, told.low, told.high) == pytest.approx(
        (0.6, 0.6 - 4.30265 * 0.1 / 3**0.5, 0.6 + 4.30265 * 0.1 / 3**0.5), abs=1e-5
    )


def test_one_value_has_no_interval():
    told = scores.interval([0.5])
    assert (told.mean, told.low, told.high) == (0.5, None, None)


def test_paired_values_are_scipys_paired_t_test():
    ones, others = [0.61, 0.64, 0.60, 0.66], [0.55, 0.60, 0.58, 0.57]
    told = scores.paired(ones, others)
    expected = stats.ttest_rel(ones, others).confidence_interval(0.95)
    assert (told.low, told.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("only_one", "only_other", "p"), [(8, 2, 112 / 1024), (5, 5, 1), (0, 0, 1)])
def test_mcnemar_counts_the_pictures_that_only_one_has_right(only_one, only_other, p):
    """8 against 2: twice the chance of at most 2 heads in 10, (1 + 10 + 45) / 1024."""
    both = [(True, True)] * 7 + [(False, False)] * 3
    pairs = np.array([*both, *[(True, False)] * only_one, *[(False, True)] * only_other])
    assert scores.mcnemar(pairs[:, 0], pairs[:, 1]) == pytest.approx(p)
