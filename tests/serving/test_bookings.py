import math

import pytest

from service.serving.bookings import GRACE_S, LEAD_S, RETURNING_SHARE, Bookings

IMAGE_S = 0.1
APART_S = IMAGE_S / RETURNING_SHARE


class Clock:
    """Stands still until a test moves it."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def bookings(clock):
    return Bookings(clock)


def book(bookings, name, images=1, wait_s=2.0):
    return bookings.book(name, images, wait_s, IMAGE_S)


def test_each_is_told_a_time_behind_the_one_before(bookings):
    told = [book(bookings, str(number)) for number in range(5)]
    assert told == pytest.approx([2 + LEAD_S + number * APART_S for number in range(5)])


def test_a_request_of_many_images_takes_as_much_room_as_many_requests(bookings):
    book(bookings, "many", images=10)
    assert book(bookings, "next") == pytest.approx(2 + LEAD_S + 10 * APART_S)


def test_nobody_is_told_less_than_the_wait_in_the_queue(bookings, clock):
    book(bookings, "long ago")
    clock.now += 100
    assert book(bookings, "now", wait_s=3) == pytest.approx(3 + LEAD_S)


def test_who_comes_too_early_keeps_its_time(bookings, clock):
    first, _ = book(bookings, "early"), book(bookings, "other")
    clock.now += 0.5
    assert book(bookings, "early") == pytest.approx(first - 0.5)


def test_seats_are_kept_from_a_lead_before_the_time_told_until_the_grace_is_over(bookings, clock):
    told = book(bookings, "a", images=3)
    first, last = told - LEAD_S, told + GRACE_S
    for after_s, seats in ((0, 0), (first - 0.01, 0), (first, 3), (last, 3), (last + 0.01, 0)):
        clock.now = 1000 + after_s
        assert (bookings.seats(), bookings.is_due("a")) == (seats, seats > 0)


def test_they_are_kept_for_nobody_else_and_once_only(bookings, clock):
    clock.now += book(bookings, "a")
    assert bookings.is_due("a")
    assert not bookings.is_due("b")
    bookings.redeem("b")
    assert bookings.seats() == 1
    bookings.redeem("a")
    assert (bookings.seats(), bookings.is_due("a")) == (0, False)
    bookings.redeem("a")
    assert bookings.seats() == 0


def test_who_is_refused_again_is_told_a_new_time_and_has_no_seats_twice(bookings, clock):
    clock.now += book(bookings, "a")
    assert bookings.seats() == 1
    clock.now += book(bookings, "a")
    assert bookings.seats() == 1


def test_what_is_forgotten_keeps_no_seats_and_delays_nobody(bookings, clock):
    for number in range(100):
        book(bookings, str(number), wait_s=0)
    clock.now += 1
    bookings.clear()
    assert bookings.seats() == 0
    assert book(bookings, "next", wait_s=1) == pytest.approx(1 + LEAD_S)


def test_those_who_obey_find_their_seats_however_many_were_refused(bookings, clock):
    """Ten times too much for ten seconds; all come back in the second that Retry-After names."""
    back: dict[float, list[str]] = {}
    for number in range(1000):
        told = book(bookings, str(number), wait_s=1)
        back.setdefault(math.ceil(clock.now + max(1, math.ceil(told))), []).append(str(number))
        clock.now += IMAGE_S / 10
    found = []
    for second in sorted(back):
        clock.now = second
        found += [bookings.is_due(name) for name in back[second]]
        for name in back[second]:
            bookings.redeem(name)
        assert len(back[second]) <= RETURNING_SHARE / IMAGE_S + 1, "they come back together"
    assert sum(found) / len(found) >= 0.95
