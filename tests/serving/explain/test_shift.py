import numpy as np
import pytest
from scipy import ndimage

from service.serving.explain.shift import GRID, moved, stability_of

PICTURE = np.random.default_rng(1).integers(0, 256, (9, 7, 3), np.uint8)


@pytest.mark.parametrize("offset", [(0, 0), (2, 0), (0, 3), (-1, -4), (5, -2), (100, -100)])
def test_a_picture_is_moved_right_and_down_with_its_edges_repeated(offset):
    right, down = offset
    expected = ndimage.shift(PICTURE, (down, right, 0), order=0, mode="nearest")
    np.testing.assert_array_equal(moved(PICTURE, offset), expected)


def test_the_grid_is_25_places_with_the_picture_itself_in_the_middle():
    assert len(set(GRID)) == 25
    assert GRID[12] == (0, 0)
    assert {abs(step) for offset in GRID for step in offset} == {0, 8, 16}


def test_stability_and_drift_are_told_of_the_class_that_was_likeliest_in_place():
    answers = [np.array(row, np.float32) for row in ([0.7, 0.3], [0.4, 0.6], [0.9, 0.1], [0.7, 0.3])]
    result = stability_of(np.array([0.7, 0.3], np.float32), answers)
    assert result.stability == 3 / 4
    assert result.kept == pytest.approx([0.7, 0.4, 0.9, 0.7])
    assert result.drift_mean == pytest.approx((0.3 + 0.2) / 4)
    assert result.drift_max == pytest.approx(0.3)
