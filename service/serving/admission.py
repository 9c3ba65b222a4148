"""Who may queue: the limits, the measured service time, and the seats of those who were refused before.

Not safe for threads: the batcher calls it under its own lock.
"""

import math

from service.errors import TooBusy
from service.serving.bookings import Bookings

FIRST_GUESS_S = 0.05
NEWEST_SHARE = 0.2  # of the latest batch in the running estimate of an image's service time


class Admission:
    """Counts in images. The queue is bounded in their number and, by what one takes, in time."""

    def __init__(self, max_queued_images: int, max_wait_s: float) -> None:
        self._max_queued_images = max_queued_images
        self._max_wait_s = max_wait_s
        self._image_s = FIRST_GUESS_S
        self._bookings = Bookings()

    def observe(self, image_s: float) -> None:
        """What each image of a batch has taken."""
        self._image_s += NEWEST_SHARE * (image_s - self._image_s)

    def check(self, request_id: str, images: int, pending: int, left_s: float) -> None:
        """Raises TooBusy when so many images do not fit, or would wait too long.

        An idle queue takes all. Around the time that a refused request is told, seats are kept for
        another one of the same id.
        """
        if not pending:
            self._bookings.clear()
            return
        kept = 0 if self._bookings.is_due(request_id) else min(self._bookings.seats(), self._most() // 2)
        wait_s = (pending + kept) * self._image_s
        if pending + kept + images > self._max_queued_images:
            reason = f"The queue is full ({pending} images)."
        elif wait_s > min(left_s, self._max_wait_s):
            limit = "the deadline" if wait_s > left_s else f"the limit of {self._max_wait_s:g} s"
            reason = f"The wait is predicted to be {wait_s:.1f} s, longer than {limit}."
        else:
            return
        back_s = self._bookings.book(request_id, images, pending * self._image_s, self._image_s)
        raise TooBusy(reason, max(1, math.ceil(back_s)))

    def enter(self, request_id: str) -> None:
        """What was checked is admitted: seats that were kept for it are its own now."""
        self._bookings.redeem(request_id)

    def _most(self) -> int:
        """Images that may be pending before either limit is reached."""
        return int(min(self._max_queued_images, self._max_wait_s / self._image_s))
