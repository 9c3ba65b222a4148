"""Seats for those who were refused: Retry-After as a promise.

How long the queue is now, and who is refused, is admission.py's.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

RETURNING_SHARE = 0.5  # of the engine's time goes to those who come back; new requests keep the rest
LEAD_S = 1.0  # seats are kept so long before: a batch of others, once admitted, cannot be sent away
GRACE_S = 2.0  # and after: Retry-After is rounded up to seconds, and the way to here takes a moment
MAX_BOOKINGS = 100_000


@dataclass(frozen=True)
class Booking:
    """Seats for one request, around a moment on the monotonic clock."""

    at: float
    images: int


class Bookings:
    """Refused requests by id, each with a time of its own to come back.

    If all were told the same few seconds, they would come back together and be refused again. So each
    gets a time behind that of the one refused before it, no denser than half the engine's time can
    serve, and its seats are kept free around then. A request that comes back earlier, or not at all,
    costs nothing but those seats.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._booked: dict[str, Booking] = {}  # in the order of their times
        self._due: dict[str, Booking] = {}
        self._last = 0.0
        self._seats = 0

    def book(self, request_id: str, images: int, wait_s: float, image_s: float) -> float:
        """Seconds until that request may come back, at least `wait_s`; who is early keeps its time."""
        now = self._clock()
        self.redeem(request_id)
        if request_id in self._booked:
            return self._booked[request_id].at - now
        at = max(self._last, now + wait_s + LEAD_S)
        self._last = at + images * image_s / RETURNING_SHARE
        if len(self._booked) < MAX_BOOKINGS:
            self._booked[request_id] = Booking(at, images)
        return at - now

    def seats(self) -> int:
        """Seats that are kept free now."""
        now = self._clock()
        while (first := next(iter(self._booked), None)) and self._booked[first].at - LEAD_S <= now:
            self._due[first] = self._booked.pop(first)
            self._seats += self._due[first].images
        while (first := next(iter(self._due), None)) and self._due[first].at + GRACE_S < now:
            self.redeem(first)
        return self._seats

    def is_due(self, request_id: str) -> bool:
        """Whether seats are kept for that request now."""
        self.seats()
        return request_id in self._due

    def redeem(self, request_id: str) -> None:
        """Keeps no seats for that request any more, if any were."""
        if booking := self._due.pop(request_id, None):
            self._seats -= booking.images

    def clear(self) -> None:
        """Forgets all: there is room for everybody again."""
        self._booked.clear()
        self._due.clear()
        self._last = self._seats = 0
