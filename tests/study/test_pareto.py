import itertools

import numpy as np
import pytest
from experiment_records import experiment, measured, trained
from fakes import structure

from service.study.pareto import pareto


def heads(figures, is_measured=True, **changes):
    """A head for each (accuracy, latency, memory)."""
    return [
        trained(
            f"head{number}",
            experiment([accuracy], **changes),
            measured(p50_ms=latency_ms, resident_mb=resident_mb) if is_measured else None,
            structure=structure(parameters=int(resident_mb)),
        )
        for number, (accuracy, latency_ms, resident_mb) in enumerate(figures)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_the_best_are_those_that_nothing_beats(seed):
    figures = np.random.default_rng(seed).integers(1, 4, (8, 3)) / [4, 1, 1]
    gains = figures * [1, -1, -1]
    is_beaten = np.zeros(8, bool)
    for one, other in itertools.permutations(range(8), 2):
        is_beaten[one] |= (gains[other] >= gains[one]).all() and (gains[other] > gains[one]).any()
    assert pareto(heads(figures)).best == {f"head{at}" for at in np.flatnonzero(~is_beaten)}


def test_equal_heads_are_both_best():
    assert pareto(heads([(0.5, 9, 9), (0.5, 9, 9)])).best == {"head0", "head1"}


def test_unmeasured_heads_are_judged_by_accuracy_and_parameters():
    found = pareto(heads([(0.5, 9, 10), (0.6, 9, 10), (0.5, 9, 5)], is_measured=False))
    assert found.best == {"head1", "head2"}
    assert "by accuracy and parameters, for no report has" in found.note


def test_heads_that_the_report_lacks_are_named_and_not_judged():
    found = pareto([*heads([(0.5, 9, 9)]), trained("new", experiment([0.9]))])
    assert found.best == {"head0"}
    assert found.note == (
        "* Pareto-best among heads tested on the same pictures, by accuracy, latency and memory. "
        "Not judged, because the report has no figures of their version: new."
    )


def test_a_system_that_does_not_tell_memory_leaves_parameters():
    one = trained("one", measured=measured(resident_mb=None))
    assert "by accuracy and parameters" in pareto([one]).note


def test_heads_tested_on_other_pictures_are_no_rivals():
    (better,) = heads([(0.9, 1, 1)])
    worse = trained("worse", experiment([0.1], data="a" * 64), measured(p50_ms=9))
    assert pareto([better, worse]).best == {"head0", "worse"}
