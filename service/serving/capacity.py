"""How much work is taken on: the only place that refuses for lack of room. Safe for threads.

A request holds one permit: bytes while its body is on its way to pixels, seats until they are computed.
"""

import asyncio
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from types import TracebackType
from typing import Any

from service.errors import NotReady, TooBusy, TooManyJobs
from service.serving.deadline import Deadline

STOPPING = "The service is stopping."
FIRST_GUESS_S = 0.05
NEWEST_SHARE = 0.2  # The weight of the latest batch in the running mean of a job's time.
MAX_RETRY_S = 30
# Shorter than the window in which a body is found slow: a pause is not the client's fault.
PAUSE_S = 4.0
POLL_S = 0.05


class Capacity:
    """Bounds the jobs that wait, by number and by time, and the bytes of bodies in flight."""

    def __init__(
        self,
        max_queued_images: int = 64,
        max_wait_s: float = math.inf,
        max_jobs_per_request: int = 256,
        max_bytes_in_flight: int = 256 * 2**20,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.max_queued_images = max_queued_images
        self.max_wait_s = max_wait_s
        self.max_jobs_per_request = max_jobs_per_request
        self.max_bytes_in_flight = max_bytes_in_flight
        self._jitter = jitter
        self._job_s = FIRST_GUESS_S
        self._seats: set[Future[Any]] = set()
        self._bytes = 0
        self._is_closed = False
        self._lock = threading.Lock()

    @property
    def pending(self) -> int:
        """Jobs admitted and not yet answered."""
        return len(self._seats)

    @property
    def wait_s(self) -> float:
        """The predicted time until all of them are answered."""
        return self.pending * self._job_s

    @property
    def bytes_in_flight(self) -> int:
        """Bytes of bodies, and of what was made of them, that are not pixels yet."""
        return self._bytes

    def is_full(self) -> bool:
        """Whether the bytes in flight have reached their bound."""
        return self._bytes >= self.max_bytes_in_flight

    def permit(self, timeout_s: float) -> "Permit":
        """One that holds nothing yet."""
        return Permit(self, timeout_s)

    def let_in(self, timeout_s: float) -> "Permit":
        """The permit of a request whose body has not come yet. Raises TooBusy; takes nothing."""
        if self.is_full():
            raise self.too_busy(f"{self._bytes / 1e6:.0f} MB of bodies are in flight.")
        self.check(timeout_s)
        return self.permit(timeout_s)

    def observe(self, job_s: float) -> None:
        """What each job of a batch has taken."""
        self._job_s += NEWEST_SHARE * (job_s - self._job_s)

    def check(self, left_s: float) -> None:
        """Raises TooBusy where jobs with so much time left would not be admitted now.

        Its own jobs do not count, only those ahead of it: else large requests would be starved. An idle
        engine takes all.
        """
        pending, wait_s = self.pending, self.wait_s
        if pending >= self.max_queued_images:
            raise self.too_busy(f"The queue is full ({pending} images).")
        if pending and wait_s > min(left_s, self.max_wait_s):
            limit = "the deadline" if wait_s > left_s else f"the limit of {self.max_wait_s:g} s"
            raise self.too_busy(f"The wait is predicted to be {wait_s:.1f} s, longer than {limit}.")

    def too_busy(self, reason: str) -> TooBusy:
        """The refusal. Clients come back spread over once to twice the backlog, within 30 s."""
        return TooBusy(
            reason, math.ceil(min(MAX_RETRY_S, max(1.0, self.wait_s * self._jitter(1.0, 2.0))))
        )

    def take_seats(self, jobs: Sequence[Future[Any]], left_s: float) -> None:
        """Admits the jobs of a request; each gives its seat back when its future ends.

        Raises what `check` does, TooManyJobs, or NotReady once closed.
        """
        if len(jobs) > self.max_jobs_per_request:
            raise TooManyJobs(len(jobs), self.max_jobs_per_request)
        with self._lock:
            if self._is_closed:
                raise NotReady(STOPPING)
            self.check(left_s)
            self._seats.update(jobs)
        for job in jobs:
            job.add_done_callback(self._give_seat_back)

    def take_bytes(self, held: int, size: int) -> bool:
        """Whether so many more bytes are taken by one who holds some: not at the bound, unless alone."""
        with self._lock:
            if self.is_full() and self._bytes > held:
                return False
            self._bytes += size
            return True

    def give_bytes_back(self, size: int) -> None:
        """So many were taken, and are no more."""
        with self._lock:
            self._bytes -= size

    def close(self) -> None:
        """Admits nobody any more; who still waits gets NotReady."""
        with self._lock:
            self._is_closed = True
            waiting = tuple(self._seats)
        for job in waiting:
            with suppress(InvalidStateError):
                job.set_exception(NotReady(STOPPING))

    def _give_seat_back(self, job: Future[Any]) -> None:
        with self._lock:
            self._seats.discard(job)


class Permit:
    """What one request holds. As a context manager it ends with the request."""

    def __init__(self, capacity: Capacity, timeout_s: float) -> None:
        self.capacity = capacity
        self._timeout_s = timeout_s
        self._began = time.monotonic()
        self._bytes = 0
        self._is_seated = False
        self._lock = threading.Lock()

    def __enter__(self) -> "Permit":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives its bytes back. Once it is seated, each picture gives back its own."""
        if not self._is_seated:
            self.keep(0)

    @property
    def deadline(self) -> Deadline:
        """Of the answer; counts from `begin`."""
        return Deadline(self._timeout_s, self._began + self._timeout_s)

    def begin(self) -> None:
        """To be called with the last byte of the body: the client's pauses are not ours."""
        self._began = time.monotonic()

    def shorten(self, timeout_s: float) -> None:
        """The body may ask for less time than the headers."""
        self._timeout_s = min(self._timeout_s, timeout_s)

    async def charge(self, size: int) -> bool:
        """Takes so many bytes, at the bound not before others have given some back.

        Returns whether it took them at once. Raises TooBusy after PAUSE_S.
        """
        until = time.monotonic() + PAUSE_S
        is_at_once = True
        while not self.capacity.take_bytes(self._bytes, size):
            is_at_once = False
            if time.monotonic() > until:
                refused = self.capacity.too_busy("The bodies in flight leave no room for this one.")
                refused.is_in_body = True
                raise refused
            await asyncio.sleep(POLL_S)
        self._bytes += size
        return is_at_once

    def keep(self, size: int) -> None:
        """Gives back all bytes but so many."""
        self.give_back(max(0, self._bytes - size))

    def give_back(self, size: int) -> None:
        """So many bytes have become pixels. May be called from any thread."""
        with self._lock:
            given = min(size, self._bytes)
            self._bytes -= given
        self.capacity.give_bytes_back(given)

    def seat(self, jobs: Sequence[Future[Any]]) -> None:
        """Admits the request's jobs, by `Capacity.take_seats`."""
        self.capacity.take_seats(jobs, self.deadline.left_s())
        self._is_seated = True
