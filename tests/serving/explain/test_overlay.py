import io

import numpy as np
import pytest
from PIL import Image

from service.serving.explain.evidence import Evidence
from service.serving.explain.overlay import COLOURS, colours, draw

GREY = np.full((224, 224, 3), 128, np.uint8)


def drawn(grid, pixels=GREY, title="gap 1: apple"):
    png = draw(pixels, Evidence(0, np.array(grid, float), 0.0, 0.0), title)
    image = Image.open(io.BytesIO(png))
    image.load()
    return image


def test_zero_is_nearly_white_and_the_scale_is_signed_and_symmetric():
    cells = colours(np.array([[-2.0, 0.0, 1.0, 2.0]]))[0].astype(int)
    assert cells[1].min() > 220
    assert cells[0, 2] > cells[0, 0] + 50, "against the class: blue"
    assert cells[3, 0] > cells[3, 2] + 50, "for the class: red"
    np.testing.assert_array_equal(cells[0], COLOURS[0])
    np.testing.assert_array_equal(cells[3], COLOURS[-1])


def test_lightness_changes_evenly_along_each_half_of_the_scale():
    """What perceptually uniform means, by CIE 1976 lightness."""
    linear = np.where(
        COLOURS / 255 <= 0.04045, COLOURS / 255 / 12.92, ((COLOURS / 255 + 0.055) / 1.055) ** 2.4
    )
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16
    for half in (lightness[:128], lightness[:127:-1]):
        steps = np.diff(half[8:])
        assert steps.min() > -0.2
        assert np.corrcoef(half, np.arange(128))[0, 1] > 0.98


def test_a_map_of_zeros_is_drawn_in_the_middle_colour():
    assert len(np.unique(colours(np.zeros((7, 7))).reshape(-1, 3), axis=0)) == 1


def test_cells_lie_over_the_part_of_the_picture_that_they_stand_for():
    grid = np.zeros((7, 7))
    grid[0, 6], grid[6, 0] = 1, -1
    image = np.asarray(drawn(grid)).astype(int)
    side = image.shape[1]
    cell = side // 7
    top_right, bottom_left = image[cell // 2, -cell // 2], image[side - cell // 2, cell // 2]
    assert top_right[0] > top_right[2] + 20
    assert bottom_left[2] > bottom_left[0] + 20
    assert np.ptp(image[side // 2, side // 2]) < 10


def test_the_picture_shows_through():
    pixels = GREY.copy()
    pixels[:, :112] = 0
    image = np.asarray(drawn(np.zeros((7, 7)), pixels)).astype(int)
    assert image[100, -100, 0] - image[100, 100, 0] > 30


@pytest.mark.parametrize("shape", [(8, 8, 3), (224, 224, 3), (299, 160, 3), (500, 600, 3)])
def test_a_legend_fits_below_pictures_of_any_size(shape):
    image = drawn(np.eye(7), np.zeros(shape, np.uint8))
    assert image.width >= 448
    assert image.mode == "RGB"
    legend = np.asarray(image)[-70:]
    assert (legend == 255).mean() > 0.5


@pytest.mark.parametrize("title", ["", "x" * 5000, "日本語 \u0000 \n two lines", "🎈" * 200])
def test_any_label_can_stand_in_the_legend(title):
    image, plain = drawn(np.eye(7), title=title), drawn(np.eye(7))
    assert image.size == plain.size
