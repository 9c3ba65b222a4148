"""Differences and their intervals, against Student's t and McNemar's test by hand."""

from math import comb, sqrt

import numpy as np
import pytest
from experiment_records import TRUTH, experiment, trained

from service.study.pairs import notes, pairs, points

T_2 = 4.302652729911275  # the 97.5 % quantile of Student's t with 2 degrees of freedom, from a table


def pair(one, other):
    (found,) = pairs([trained("one", one), trained("other", other)])
    return found


def by_hand(ones, others):
    differences = np.subtract(ones, others)
    mean = sum(differences) / 3
    half = T_2 * sqrt(sum((differences - mean) ** 2) / 2 / 3)
    return mean, mean - half, mean + half


def test_a_difference_is_claimed_when_neither_seeds_nor_pictures_explain_it():
    ones, others = [0.80, 0.90, 0.70], [0.76, 0.85, 0.67]
    found = pair(experiment(ones), experiment(others, wrong=range(6)))
    mean, low, high = by_hand(ones, others)
    assert low > 0
    interval = found.difference
    assert (interval.mean, interval.low, interval.high) == pytest.approx((mean, low, high))
    assert str(found) == (
        f"one is right on {100 * mean:.1f} points more pictures than other "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f} over 3 seeds; by picture p = 0.031)."
    )


def test_what_every_seed_shows_on_too_few_pictures_is_no_difference():
    """A point more with each of three seeds has an interval without width, and may be two pictures."""
    found = pair(experiment([0.81, 0.91, 0.71]), experiment([0.80, 0.90, 0.70], wrong=range(5)))
    assert found.difference.low > 0
    assert found.p == pytest.approx(2 / 2**5)
    assert "no difference was found" in str(found)


def test_no_difference_is_found_when_the_interval_by_seed_holds_0():
    ones, others = [0.80, 0.90, 0.70], [0.70, 0.95, 0.69]
    mean, low, high = by_hand(ones, others)
    assert low < 0 < mean
    assert str(pair(experiment(ones), experiment(others, wrong=range(6)))) == (
        f"one and other: no difference was found (one was right on {100 * mean:.1f} points more "
        f"pictures than other; 95 % interval {100 * low:.1f} to {100 * high:.1f} over 3 seeds; "
        "by picture p = 0.031)."
    )


def test_the_better_head_is_named_first_whichever_comes_first():
    ones, others = [0.76, 0.85, 0.67], [0.80, 0.90, 0.70]
    found = pair(experiment(ones), experiment(others))
    assert (found.better, found.worse) == ("other", "one")
    interval = found.difference
    assert (interval.mean, interval.low, interval.high) == pytest.approx(by_hand(others, ones))


def test_values_are_paired_by_seed_and_not_by_their_order():
    one = experiment([0.8, 0.9, 0.7])
    other = one.model_copy(update={"runs": one.runs[::-1]})
    assert pair(one, other).difference.high == 0


def test_p_is_mcnemars_of_the_pictures_only_one_has_right():
    one, other = experiment(wrong=[9]), experiment(wrong=[0, 1, 2, 3, 4, 5, 6, 9])
    expected = 2 * sum(comb(7, only_one) for only_one in (7,)) / 2**7  # 7 discordant, all for one
    assert pair(one, other).p == pytest.approx(expected)
    assert f"p = {expected:.3f}" in str(pair(one, other))


@pytest.mark.parametrize(
    "fewer", [{"accuracies": [0.8]}, {"accuracies": [0.8, 0.9]}], ids=["one seed", "other seeds"]
)
def test_without_common_seeds_it_rests_on_the_pictures_alone(fewer):
    one, other = experiment(**fewer), experiment([0.8], wrong=range(7))
    found = pair(one, other)
    right_of_other = np.mean(np.array(other.predicted) == TRUTH)
    assert found.difference.mean == pytest.approx(1 - right_of_other)
    assert found.p == pytest.approx(2 / 2**7)
    assert str(found) == (
        "one is right on 70.0 points more pictures than other "
        "(by picture p = 0.016; one training of each, so the chance in training is not counted)."
    )
    five = str(pair(one, experiment([0.8], wrong=range(5))))  # p = 2 / 2**5
    assert "no difference was found" in five
    assert "p = 0.062" in five


def test_a_tiny_p_is_told_as_less_than():
    many = {"truth": [0] * 40, "predicted": [0] * 40}
    none = {"truth": [0] * 40, "predicted": [1] * 40}
    assert "by picture p < 0.001" in str(pair(experiment(**many), experiment(**none)))


def test_heads_tested_on_other_pictures_are_not_compared_and_that_is_one_line():
    others = [trained(head, experiment(data="a" * 64)) for head in ("c", "d")]
    tested = [trained("a"), trained("b"), *others]
    assert [(pair.better, pair.worse) for pair in pairs(tested)] == [("a", "b"), ("c", "d")]
    told = notes(tested)
    assert told[0].startswith("Pairs compared: 2. Neither intervals nor p are corrected")
    assert told[-1] == "Not comparable, because their pictures or splits differ: a, b | c, d."


def test_equal_digests_with_other_truths_are_other_pictures():
    other = experiment(truth=TRUTH[::-1], predicted=TRUTH[::-1])
    assert pairs([trained("a"), trained("b", other)]) == []


def test_a_head_alone_has_no_pair_and_nothing_to_note():
    assert pairs([trained()]) == []
    assert notes([trained()]) == []


def test_points_have_one_digit_and_no_negative_zero():
    assert [points(share) for share in (0.12345, -0.02, -0.0001, 1)] == ["12.3", "-2.0", "0.0", "100.0"]
