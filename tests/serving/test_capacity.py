import asyncio
import math
import random
import threading
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from service.errors import NotReady, TooBusy, TooManyJobs
from service.serving.capacity import MAX_RETRY_S, PAUSE_S, Capacity

JOB_S = 0.1
PATIENT_S = 1000.0


def jobs(count=1):
    return [Future() for _ in range(count)]


def measured(job_s=JOB_S, jitter=min, **bounds):
    """A capacity that has measured so many seconds a job, and sends everybody back at the earliest."""
    capacity = Capacity(**bounds, jitter=jitter)
    for _ in range(100):
        capacity.observe(job_s)
    return capacity


def seated(capacity, count=1, left_s=PATIENT_S):
    taken = jobs(count)
    capacity.take_seats(taken, left_s)
    return taken


def test_an_idle_engine_takes_every_request_that_is_allowed():
    capacity = measured(max_queued_images=2, max_wait_s=0.01, max_jobs_per_request=75)
    seated(capacity, 75, left_s=0.001)
    assert capacity.pending == 75


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_only_the_jobs_ahead_count_and_not_the_requests_own(ahead):
    capacity = measured(max_queued_images=4, max_jobs_per_request=100)
    seated(capacity, ahead)
    seated(capacity, 100)
    assert capacity.pending == ahead + 100
    with pytest.raises(TooBusy, match=rf"The queue is full \({ahead + 100} images\)"):
        seated(capacity)


def test_a_wait_longer_than_the_limit_is_refused_however_patient_the_client_is():
    capacity = measured(max_wait_s=0.45)
    seated(capacity, 5)
    with pytest.raises(TooBusy, match=r"predicted to be 0\.5 s, longer than the limit of 0\.45 s"):
        seated(capacity)


def test_a_wait_longer_than_the_deadline_is_refused():
    capacity = measured(max_wait_s=10)
    seated(capacity, 30)
    with pytest.raises(TooBusy, match=r"predicted to be 3\.0 s, longer than the deadline"):
        seated(capacity, left_s=2)
    seated(capacity, left_s=4)


def test_a_refusal_takes_no_seats():
    capacity = measured(max_queued_images=1)
    first = seated(capacity)
    for _ in range(10):
        with pytest.raises(TooBusy):
            seated(capacity, 5)
    assert capacity.pending == 1
    first[0].set_result(None)
    seated(capacity)


@pytest.mark.parametrize(
    "end", [lambda job: job.set_result(1), Future.cancel, lambda job: job.set_exception(ValueError())]
)
def test_a_seat_comes_back_however_its_future_ends(end):
    capacity = measured()
    for job in seated(capacity, 3):
        end(job)
    assert capacity.pending == 0


def test_a_future_that_had_ended_before_it_was_seated_keeps_no_seat():
    capacity, over = measured(), jobs()
    over[0].cancel()
    capacity.take_seats(over, PATIENT_S)
    assert capacity.pending == 0


def test_a_request_of_more_jobs_than_are_allowed_is_refused_for_good_also_when_idle():
    with pytest.raises(TooManyJobs, match="asks for 11 passes"):
        seated(measured(max_jobs_per_request=10), 11)


@pytest.mark.parametrize(
    ("pending", "factor", "told_s"),
    [(1, 1, 1), (1, 2, 1), (20, 1, 2), (20, 2, 4), (21, 1, 3), (1000, 2, 30)],
)
def test_retry_after_is_the_backlog_spread_up_to_twice_of_it_in_whole_seconds(pending, factor, told_s):
    capacity = measured(jitter=lambda *_: factor, max_queued_images=1, max_jobs_per_request=1000)
    seated(capacity, pending)
    with pytest.raises(TooBusy) as refused:
        seated(capacity)
    assert refused.value.retry_after_s == told_s
    assert str(refused.value).endswith(f"Try again in {told_s} s.")


def test_those_refused_together_are_spread_and_nobody_is_sent_away_for_long():
    capacity = Capacity(max_queued_images=1, max_jobs_per_request=10**5)
    seated(capacity, 200)
    told = set()
    for _ in range(1000):
        with pytest.raises(TooBusy) as refused:
            seated(capacity)
        told.add(refused.value.retry_after_s)
    assert told == set(range(math.ceil(200 * 0.05) + 1, 21)) | {11}
    seated_more = Capacity(max_queued_images=1, max_jobs_per_request=10**5)
    seated(seated_more, 10**4)
    with pytest.raises(TooBusy) as refused:
        seated(seated_more)
    assert refused.value.retry_after_s == MAX_RETRY_S


def test_the_door_takes_nothing_and_refuses_what_would_not_be_admitted():
    capacity = measured(max_queued_images=1)
    for _ in range(10):
        capacity.let_in(PATIENT_S)
    assert (capacity.pending, capacity.bytes_in_flight) == (0, 0)
    seated(capacity)
    with pytest.raises(TooBusy, match="The queue is full"):
        capacity.let_in(PATIENT_S)


def test_the_door_refuses_who_has_too_little_time_for_what_is_ahead():
    capacity = measured()
    seated(capacity, 30)
    capacity.let_in(4)
    with pytest.raises(TooBusy, match="longer than the deadline"):
        capacity.let_in(2)


def test_the_door_is_shut_while_the_bytes_in_flight_are_at_their_bound():
    capacity = Capacity(max_bytes_in_flight=100)
    permit = capacity.let_in(PATIENT_S)
    asyncio.run(permit.charge(100))
    with pytest.raises(TooBusy, match="of bodies are in flight"):
        capacity.let_in(PATIENT_S)
    permit.keep(99)
    capacity.let_in(PATIENT_S)


def test_bytes_come_back_with_the_end_of_the_request():
    capacity = Capacity()
    with capacity.let_in(PATIENT_S) as permit:
        assert asyncio.run(permit.charge(1000))
        assert capacity.bytes_in_flight == 1000
        permit.keep(400)
        assert capacity.bytes_in_flight == 400
    assert capacity.bytes_in_flight == 0


def test_once_seated_each_picture_gives_back_its_own_bytes():
    capacity = Capacity()
    with capacity.let_in(PATIENT_S) as permit:
        asyncio.run(permit.charge(1000))
        permit.seat(jobs(2))
    assert capacity.bytes_in_flight == 1000, (
        "decoders still hold the files of a request that was dropped"
    )
    permit.give_back(600)
    permit.give_back(400)
    permit.give_back(400)
    assert capacity.bytes_in_flight == 0


def test_at_the_bound_a_body_pauses_until_others_give_bytes_back():
    capacity = Capacity(max_bytes_in_flight=100)

    async def paused():
        holder, other = capacity.permit(PATIENT_S), capacity.permit(PATIENT_S)
        await holder.charge(100)
        charging = asyncio.create_task(other.charge(50))
        await asyncio.sleep(0)
        assert not charging.done()
        holder.keep(0)
        return await charging

    assert asyncio.run(paused()) is False, "it was not taken at once"
    assert capacity.bytes_in_flight == 50


def test_a_body_that_finds_no_room_in_time_is_refused_in_its_middle():
    capacity = Capacity(max_bytes_in_flight=100)
    asyncio.run(capacity.permit(PATIENT_S).charge(100))

    async def starved():
        async with asyncio.timeout(PAUSE_S + 10):
            await capacity.permit(PATIENT_S).charge(1)

    with pytest.raises(TooBusy, match="leave no room") as refused:
        asyncio.run(starved())
    assert refused.value.is_in_body
    assert capacity.bytes_in_flight == 100


def test_who_is_alone_is_never_refused_for_its_bytes():
    capacity = Capacity(max_bytes_in_flight=100)
    permit = capacity.permit(PATIENT_S)

    async def all_of_it():
        return [await permit.charge(80) for _ in range(5)]

    assert asyncio.run(all_of_it()) == [True] * 5


def test_the_deadline_runs_from_the_last_byte():
    permit = Capacity().permit(5.0)
    first = permit.deadline.at
    permit.begin()
    assert permit.deadline.at > first
    assert permit.deadline.timeout_s == 5.0
    permit.shorten(2.0)
    permit.shorten(3.0)
    assert permit.deadline.timeout_s == 2.0


def test_closing_fails_who_waits_and_admits_nobody():
    capacity = measured()
    waiting, answered = seated(capacity, 2)
    answered.set_result("an answer")
    capacity.close()
    with pytest.raises(NotReady, match="stopping"):
        waiting.result(0)
    assert answered.result(0) == "an answer"
    assert capacity.pending == 0
    with pytest.raises(NotReady, match="stopping"):
        seated(capacity)


def test_outside_of_requests_every_caller_is_judged_alike():
    """Two callers without any request id: neither finds room that was kept for the other."""
    capacity = measured(max_queued_images=1)
    seated(capacity)
    for _ in range(2):
        with pytest.raises(TooBusy):
            capacity.let_in(PATIENT_S)
        with pytest.raises(TooBusy):
            seated(capacity)


def test_threads_that_take_and_give_back_leave_nothing_behind():
    capacity = Capacity(max_queued_images=8, max_jobs_per_request=4)
    barrier = threading.Barrier(8)

    def work(number):
        barrier.wait(10)
        for _ in range(300):
            permit = capacity.permit(PATIENT_S)
            asyncio.run(permit.charge(10))
            try:
                taken = jobs(1 + number % 4)
                permit.seat(taken)
            except TooBusy:
                permit.keep(0)
                continue
            for job in taken:
                job.set_result(None)
            permit.give_back(10)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert (capacity.pending, capacity.bytes_in_flight) == (0, 0)


class Flood:
    """Poisson arrivals at a multiple of what an engine can do, in simulated time, on the real class."""

    LARGE = 32
    BATCH = 8
    SECONDS = 600

    def __init__(self, times, seed=0):
        self.choose = random.Random(seed)
        self.capacity = measured(job_s=0.03, max_wait_s=1.5)
        self.images_per_s = times / 0.03
        self.queue = deque()
        self.asked, self.served = Counter(), Counter()

    def run(self):
        """Half of the images come one by one, and half of them 32 at a time."""
        arrivals = self.arrivals(1) + self.arrivals(self.LARGE)
        free_s = 0.0
        for now_s, size in sorted(arrivals):
            while self.queue and free_s <= now_s:
                batch = [self.queue.popleft() for _ in range(min(self.BATCH, len(self.queue)))]
                free_s += 0.03 * len(batch)
                for job in batch:
                    job.set_result(None)
            free_s = max(free_s, now_s) if not self.queue else free_s
            self.ask(size)
        return {size: self.served[size] / self.asked[size] for size in self.asked}

    def arrivals(self, size):
        """When requests of that size come."""
        at, moments = 0.0, []
        while at < self.SECONDS:
            at += self.choose.expovariate(self.images_per_s / 2 / size)
            moments.append((at, size))
        return moments

    def ask(self, size):
        """One request."""
        self.asked[size] += 1
        wanted = jobs(size)
        try:
            self.capacity.take_seats(wanted, PATIENT_S)
        except TooBusy:
            return
        self.served[size] += 1
        self.queue.extend(wanted)


@pytest.mark.parametrize(("times", "seed"), [(2, 0), (2, 1), (10, 0), (10, 1)])
def test_in_a_flood_requests_of_32_images_are_served_like_single_ones(times, seed):
    shares = Flood(times, seed).run()
    assert 0.7 / times < shares[1] < 1.4 / times
    assert 0.7 < shares[32] / shares[1] < 1.4
