import itertools
import random
import statistics

import numpy as np
import pytest

from service.benchmark.summary import median_ratio, summarise


def percentile(values, percent):
    """Type 7 of Hyndman and Fan, written down anew."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def test_a_summary_computed_by_hand():
    summary = summarise(8, 50.0, [10.0, 40.0, 20.0, 30.0])
    assert summary.n == 4
    assert summary.first_call_ms == 50
    assert summary.p50_ms == 25
    assert summary.p90_ms == pytest.approx(37)  # 2.7 steps up: 30 + 0.7 * 10
    assert summary.p95_ms == pytest.approx(38.5)
    assert summary.p99_ms == pytest.approx(39.7)
    assert summary.mean_ms == 25
    assert summary.stdev_ms == pytest.approx((500 / 3) ** 0.5)
    assert summary.images_per_s == pytest.approx(320)  # 8 images in 25 ms


def test_a_summary_of_many_against_the_standard_library():
    rng = random.Random(1)
    values = [rng.lognormvariate(3, 0.4) for _ in range(997)]
    summary = summarise(1, 0.0, values)
    for percent in (50, 90, 95, 99):
        assert getattr(summary, f"p{percent}_ms") == pytest.approx(percentile(values, percent))
    assert summary.mean_ms == pytest.approx(statistics.fmean(values))
    assert summary.stdev_ms == pytest.approx(statistics.stdev(values))


def test_one_call_has_no_spread():
    summary = summarise(1, 5.0, [4.0])
    assert (summary.p50_ms, summary.p99_ms, summary.stdev_ms) == (4, 4, 0)


def test_a_ratio_is_of_the_medians_of_all_rounds():
    ratio, low, high = median_ratio([[2.0, 9.0]] * 5, [[1.0], [2.0, 3.0]] * 2 + [[2.0]])
    assert ratio == 5.5 / 2
    assert low <= ratio <= high


def test_rounds_that_are_alike_leave_no_doubt():
    assert median_ratio([[3.0, 6.0, 9.0]] * 6, [[1.0, 2.0, 3.0]] * 6) == (3, 3, 3)


def test_drift_that_both_saw_cancels():
    """Each round is slower than the one before, for both: the ratio is 2 in every draw of rounds."""
    drift = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    assert median_ratio([[2 * ms] for ms in drift], [[ms] for ms in drift]) == (2, 2, 2)


def test_an_interval_is_that_of_all_possible_draws():
    """Five rounds can be drawn in 5^5 ways; the exact quantiles of all are near those of 1000 draws."""
    ones, others = [10.0, 12.0, 15.0, 11.0, 19.0], [10.0, 9.0, 11.0, 12.0, 10.5]
    every = [
        statistics.median(ones[i] for i in draw) / statistics.median(others[i] for i in draw)
        for draw in itertools.product(range(5), repeat=5)
    ]
    ratio, low, high = median_ratio([[ms] for ms in ones], [[ms] for ms in others])
    assert ratio == pytest.approx(12 / 10.5)
    assert low == pytest.approx(percentile(every, 2.5), abs=0.03)
    assert high == pytest.approx(percentile(every, 97.5), abs=0.03)
    assert (ratio, low, high) == median_ratio([[ms] for ms in ones], [[ms] for ms in others])


def test_few_rounds_give_no_interval():
    assert median_ratio([[4.0]] * 4, [[2.0]] * 4) == (2, None, None)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(60):
        noise = rng.lognormal(0, 0.2, (2, 10, 5)) * rng.lognormal(0, 0.5, (1, 10, 1))
        _, low, high = median_ratio(1.5 * noise[0], noise[1])
        hits += low <= 1.5 <= high
    assert hits >= 50
