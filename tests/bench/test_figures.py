from pathlib import Path

import numpy as np
import pytest
from bench.figures import Figures
from bench.measure import Answers, closed_loop
from live import running
from scripted import Script, ok, status


def loaded(count, **given):
    names = ("finished_s", "latency", "decode", "inference")
    return Answers(**(dict.fromkeys(names, np.zeros(count)) | given))


def test_answers_a_second_are_the_slope_of_their_count():
    assert loaded(5, finished_s=np.array([3.0, 1, 1.5, 2, 2.5])).per_second() == pytest.approx(2)


def test_batches_that_end_at_the_edges_do_not_bend_it():
    """8 answers each 0.4 s: counting answers over the time between first and last would say 22.9."""
    batches = np.repeat(np.arange(1, 21) * 0.4, 8)
    assert loaded(160, finished_s=batches).per_second() == pytest.approx(20, rel=0.01)


def test_what_is_neither_decoding_nor_inference_is_outside():
    load = loaded(
        3,
        latency=np.array([10.0, 20, 30]),
        decode=np.array([1.0, 2, 3]),
        inference=np.array([5.0, 17, 20]),
    )
    assert load.outside() == pytest.approx(4)


def test_clients_are_measured_after_their_first_second_if_all_are_answered():
    upstream = Script(ok(**{"Server-Timing": "decode;dur=1, queue;dur=2, inference;dur=3, total;dur=6"}))
    with running(upstream) as url:
        found = closed_loop([url], 2, 0.5, Path(__file__))
    assert (set(found.decode), set(found.inference)) == ({1}, {3})
    assert 10 < found.latency.sum() < 2000, "of two clients who wait for half a second, in ms"
    assert np.ptp(found.finished_s) < 0.5
    assert len(found.latency) < len(upstream.requests)
    with running(Script(status(500), ok())) as url, pytest.raises(AssertionError, match="500: 1"):
        closed_loop([url], 1, 0.1, Path(__file__))


def test_a_row_has_the_median_of_its_rounds_and_the_middle_half():
    figures = Figures()
    for value in (1, 2, 3, 4, 10):
        figures.add(value, "wait", "ms", at_most=2.5)
    assert figures.table().splitlines()[-1] == "| wait | ≤ 2.50 ms | **3.00 ms** | 2.00 ms to 4.00 ms |"


@pytest.mark.parametrize(
    ("limits", "missed"),
    [({"at_most": 2.9}, ["f"]), ({"at_most": 3}, []), ({"at_least": 3.1}, ["f"]), ({"at_least": 3}, [])],
)
def test_a_median_beyond_its_limit_is_missed(limits, missed):
    figures = Figures()
    for value in (1, 3, 100):
        figures.add(value, "f", **limits)
    assert figures.missed() == missed


def test_a_figure_without_a_limit_is_reported():
    figures = Figures()
    figures.add(7, "f", "MB")
    assert figures.missed() == []
    assert figures.table().splitlines()[-1] == "| f | reported | **7 MB** | 7 MB to 7 MB |"
