import pytest

from service.errors import ImageTooLarge
from service.serving.pixels.budget import PixelBudget

MAX = 50_000_000


def budget(*sizes):
    return PixelBudget([bytes(size) for size in sizes], MAX)


def test_25_million_pixels_are_allowed_in_any_number_of_bytes():
    one = budget(1, 1)
    one.spend(0, 24_999_999)
    one.spend(1, 1)
    with pytest.raises(ImageTooLarge, match="25000001 pixels together, more than the 25000000"):
        one.spend(1, 2)


def test_larger_bodies_may_have_24_pixels_a_byte():
    one = budget(1_000_000, 1_000_000)
    one.spend(0, 24_000_000)
    one.spend(1, 24_000_000)
    with pytest.raises(ImageTooLarge):
        one.spend(1, 24_000_001)


def test_none_may_have_more_than_four_images_of_the_largest_size():
    one = budget(*[10_000_000] * 5)
    for index in range(4):
        one.spend(index, MAX)
    with pytest.raises(ImageTooLarge):
        one.spend(4, 1)


def test_an_image_that_is_decoded_for_several_heads_counts_once():
    one = budget(10, 10)
    for _ in range(9):
        one.spend(0, 20_000_000)
    one.spend(1, 5_000_000)
