"""Admission control: the only place that refuses requests because of load. Thread-safe.

Each request holds one permit: bytes in flight until its body is decoded to pixels, and seats in the
queue until its jobs are computed.
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
# The service's own pause must be shorter than the WINDOW_S of body.py, which would call the client slow.
PAUSE_S = 4.0
POLL_S = 0.05


class Capacity:
    """Bounds the queue, by number of jobs and by predicted wait, and the bytes of bodies in flight."""

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
        """The number of jobs that are admitted and not yet answered."""
        return len(self._seats)

    @property
    def wait_s(self) -> float:
        """The predicted seconds until all pending jobs are answered."""
        return self.pending * self._job_s

    @property
    def bytes_in_flight(self) -> int:
        """The bytes of bodies that are not decoded yet, with the copies that parsing makes of them."""
        return self._bytes

    def is_full(self) -> bool:
        """Whether the bytes in flight have reached their bound."""
        return self._bytes >= self.max_bytes_in_flight

    def permit(self, timeout_s: float) -> "Permit":
        """Returns a permit that holds nothing yet."""
        return Permit(self, timeout_s)

    def let_in(self, timeout_s: float) -> "Permit":
        """Returns a permit to a request before its body arrives. Reserves nothing. Raises TooBusy."""
        if self.is_full():
            raise self.too_busy(f"{self._bytes / 1e6:.0f} MB of bodies are in flight.")
        self.check(timeout_s)
        return self.permit(timeout_s)

    def observe(self, job_s: float) -> None:
        """Updates the running mean of a job's time; `job_s` is that of the latest batch."""
        self._job_s += NEWEST_SHARE * (job_s - self._job_s)

    def check(self, left_s: float) -> None:
        """Raises TooBusy if a new job with `left_s` until its deadline would have to wait too long.

        Only pending jobs count: counting the request's own jobs would starve large requests. An idle
        engine accepts any request.
        """
        pending, wait_s = self.pending, self.wait_s
        if pending >= self.max_queued_images:
            raise self.too_busy(f"The queue is full ({pending} images).")
        if pending and wait_s > min(left_s, self.max_wait_s):
            limit = "the deadline" if wait_s > left_s else f"the limit of {self.max_wait_s:g} s"
            raise self.too_busy(f"The wait is predicted to be {wait_s:.1f} s, longer than {limit}.")

    def too_busy(self, reason: str) -> TooBusy:
        """Builds the refusal. Retry-After is 1 to 2 times the predicted wait at random, 30 s at most."""
        return TooBusy(
            reason, math.ceil(min(MAX_RETRY_S, max(1.0, self.wait_s * self._jitter(1.0, 2.0))))
        )

    def take_seats(self, jobs: Sequence[Future[Any]], left_s: float) -> None:
        """Admits the jobs of a request; each frees its seat when its future is done.

        Raises what `check` raises, TooManyJobs, or NotReady once closed.
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
        """Reserves `size` bytes. Returns False at the bound, unless no other request holds bytes."""
        with self._lock:
            if self.is_full() and self._bytes > held:
                return False
            self._bytes += size
            return True

    def give_bytes_back(self, size: int) -> None:
        """Frees `size` reserved bytes."""
        with self._lock:
            self._bytes -= size

    def close(self) -> None:
        """Stops admission; waiting jobs raise NotReady."""
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
    """The bytes and seats of one request. As a context manager it lasts as long as the request."""

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
        """Frees the remaining bytes. Once the jobs are seated, decoding a picture frees its bytes."""
        if not self._is_seated:
            self.keep(0)

    @property
    def deadline(self) -> Deadline:
        """The deadline of the answer, which counts from `begin`."""
        return Deadline(self._timeout_s, self._began + self._timeout_s)

    def begin(self) -> None:
        """Starts the deadline when the body is complete: pauses of the client do not count."""
        self._began = time.monotonic()

    def shorten(self, timeout_s: float) -> None:
        """Shortens the timeout if the body asks for less time than the headers did."""
        self._timeout_s = min(self._timeout_s, timeout_s)

    async def charge(self, size: int) -> bool:
        """Reserves `size` bytes; at the bound it waits until other requests free some.

        Returns whether it did not have to wait. Raises TooBusy after PAUSE_S.
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
        """Frees all bytes but `size`."""
        self.give_back(max(0, self._bytes - size))

    def give_back(self, size: int) -> None:
        """Frees `size` bytes that were decoded to pixels. Thread-safe."""
        with self._lock:
            given = min(size, self._bytes)
            self._bytes -= given
        self.capacity.give_bytes_back(given)

    def seat(self, jobs: Sequence[Future[Any]]) -> None:
        """Admits the request's jobs with `Capacity.take_seats`."""
        self.capacity.take_seats(jobs, self.deadline.left_s())
        self._is_seated = True
