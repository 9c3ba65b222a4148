import random
import sys
import threading
import time
from concurrent.futures import Future

import numpy as np
import pytest
from fakes import (
    COLOURS,
    PATIENCE_S,
    SIDE,
    BrokenHead,
    EchoHead,
    FakeNetwork,
    HeldBackbone,
    MeanBackbone,
    SlowHead,
    backbone,
    head,
)
from waiting import wait_until

from service import logs
from service.errors import DeadlineExceeded, EngineFailed, NotReady, TooBusy
from service.serving.batcher import Batcher, Job
from service.serving.capacity import Capacity
from service.serving.deadline import Deadline


@pytest.fixture
def new_batcher():
    """Makes batchers. Afterwards each must be idle, still run, and end when it is closed."""
    made = []

    def make(max_queued_images=1000, **kinds):
        made.append(Batcher(Capacity(max_queued_images), **kinds))
        return made[-1]

    yield make
    for batcher in made:
        wait_until(lambda batcher=batcher: batcher.capacity.pending == 0)
        again = submit(batcher, job(head("again")))
        assert again.done.result(PATIENCE_S)
        batcher.close()
    assert not any(thread.name == "engine" for thread in threading.enumerate())


def pixels(colour="red"):
    return np.full((SIDE, SIDE, 3), COLOURS.get(colour, colour), np.uint8)


def job(*heads, colour="red", timeout_s=PATIENCE_S):
    return Job(heads, Deadline.after(timeout_s), pixels(colour))


def seat(batcher, *jobs):
    batcher.capacity.take_seats([one.done for one in jobs], jobs[0].deadline.left_s())


def submit(batcher, *jobs):
    for one in jobs:
        seat(batcher, one)
        batcher.put(one)
    return jobs[0]


def hold(batcher, base):
    """Occupies the engine with one job on a held backbone, until that is released."""
    occupied = submit(batcher, job(head("first", on=base)))
    assert base.network.entered.wait(PATIENCE_S)
    return occupied


def answers(*jobs):
    return [one.done.result(PATIENCE_S).outputs.probabilities for one in jobs]


def likeliest(probabilities):
    return ["red", "green", "blue"][int(np.argmax(probabilities))]


def test_one_job_is_answered(new_batcher):
    [answer] = answers(submit(new_batcher(), job(head("gap"), colour=(0, 60, 180))))
    np.testing.assert_allclose(answer["gap"], [0, 0.25, 0.75], atol=1e-6)


def test_a_free_engine_adds_no_waiting(new_batcher):
    batcher, gap = new_batcher(), head("gap")
    waited = []
    for _ in range(50):
        started = time.perf_counter()
        submit(batcher, job(gap)).done.result(PATIENCE_S)
        waited.append(time.perf_counter() - started)
    assert gap.network.sizes == [1] * 50
    assert min(waited) < 0.02


@pytest.mark.parametrize(
    ("max_batch_size", "sizes"),
    [(8, [8, 8, 2, 1]), (6, [6, 6, 6, 1]), (3, [3] * 6 + [1]), (1, [1] * 19)],
)
def test_an_engine_that_gets_free_takes_what_is_queued_in_batches_of_a_warm_size(
    new_batcher, max_batch_size, sizes
):
    batcher, base = new_batcher(), backbone(HeldBackbone(), max_batch_size=max_batch_size)
    hold(batcher, base)
    jobs = [job(head("gap", on=base)) for _ in range(19)]
    submit(batcher, *jobs)
    base.network.release.set()
    answers(*jobs)
    assert base.network.sizes == [1, *sizes]


def test_jobs_that_are_queued_together_run_oldest_first(new_batcher):
    batcher, base = new_batcher(), backbone(HeldBackbone(), max_batch_size=4)
    gap = head("gap", on=base)
    hold(batcher, base)
    jobs = [job(gap, colour=(number, number, number)) for number in range(10)]
    submit(batcher, *jobs)
    base.network.release.set()
    answers(*jobs)
    ran = [int(image[0, 0, 0]) for batch in base.network.batches[1:] for image in batch]
    assert ran == list(range(10))


def test_a_request_whose_decoding_took_longer_keeps_its_place(new_batcher):
    batcher, base = new_batcher(), backbone(HeldBackbone(), max_batch_size=1)
    gap = head("gap", on=base)
    hold(batcher, base)
    old, young = job(gap, colour=(1, 1, 1)), job(gap, colour=(2, 2, 2))
    seat(batcher, old, young)
    for one in (young, old):
        batcher.put(one)
    base.network.release.set()
    answers(old, young)
    assert [int(batch[0, 0, 0, 0]) for batch in base.network.batches[1:]] == [1, 2]


def test_every_job_of_a_batch_gets_its_own_answer(new_batcher):
    batcher, base = new_batcher(), backbone(HeldBackbone())
    gap = head("gap", on=base)
    hold(batcher, base)
    colours = ["red", "green", "blue", "green", "red", "blue"]
    jobs = [job(gap, colour=colour) for colour in colours]
    submit(batcher, *jobs)
    base.network.release.set()
    assert [likeliest(answer["gap"]) for answer in answers(*jobs)] == colours


def test_answers_outlast_the_batches_after_them(new_batcher):
    batcher, gap = new_batcher(), head("gap")
    [first] = answers(submit(batcher, job(gap, colour="green")))
    answers(submit(batcher, job(gap, colour="red")))
    assert likeliest(first["gap"]) == "green"


def test_heads_that_share_ride_in_one_batch_and_get_only_their_rows(new_batcher):
    batcher, base = new_batcher(), backbone(HeldBackbone())
    gap, flatten = head("gap", on=base), head("flatten", on=base)
    hold(batcher, base)
    jobs = [
        job(gap, colour="red"),
        job(flatten, colour="green"),
        job(gap, flatten, colour="blue"),
        job(gap, colour="green"),
    ]
    submit(batcher, *jobs)
    base.network.release.set()
    told = [{name: likeliest(p) for name, p in answer.items()} for answer in answers(*jobs)]
    assert told == [
        {"gap": "red"},
        {"flatten": "green"},
        {"gap": "blue", "flatten": "blue"},
        {"gap": "green"},
    ]
    assert base.network.sizes == [1, 4]
    assert (gap.network.sizes, flatten.network.sizes) == ([3], [2])


def test_two_backbones_take_turns_under_a_flood_of_both(new_batcher):
    batcher, held = new_batcher(), backbone(HeldBackbone())
    one, other = head("one"), head("other")
    hold(batcher, held)
    jobs = [job(one) for _ in range(24)] + [job(other) for _ in range(24)]
    submit(batcher, *jobs)
    held.network.release.set()
    answers(*jobs)
    finished = {a.done.result().finished: a.heads[0].card.head for a in jobs}
    assert [finished[moment] for moment in sorted(finished)] == ["one", "other"] * 3


@pytest.mark.parametrize("rare_on", ["first", "last"])
def test_a_flood_of_one_backbone_does_not_starve_the_other(new_batcher, rare_on):
    batcher, held = new_batcher(), backbone(HeldBackbone())
    flooded, rare = head("flooded", on=backbone(max_batch_size=2)), job(head("rare"))
    hold(batcher, held)
    flood = [job(flooded) for _ in range(100)]
    submit(batcher, *([rare, *flood] if rare_on == "first" else [*flood, rare]))
    held.network.release.set()
    answers(rare, *flood)
    before = sum(one.done.result().finished < rare.done.result().finished for one in flood)
    assert before <= 2


def test_what_a_batch_took_is_the_measure_of_the_wait(new_batcher):
    batcher, base = new_batcher(), backbone(HeldBackbone())
    for _ in range(12):
        answers(submit(batcher, job(head("slow", SlowHead(0.1)))))
    hold(batcher, base)
    assert 0.08 < batcher.capacity.wait_s < 0.5
    base.network.release.set()


def test_an_idle_batcher_refuses_nobody(new_batcher):
    batcher = new_batcher(max_queued_images=2)
    jobs = [job(head("gap")) for _ in range(10)]
    seat(batcher, *jobs)
    for one in jobs:
        batcher.put(one)
    answers(*jobs)


def test_one_very_slow_batch_locks_nobody_out(new_batcher):
    batcher = new_batcher()
    answers(submit(batcher, job(head("slow", SlowHead(1)))))
    for _ in range(30):
        [answer] = answers(submit(batcher, job(head("gap"), colour="blue", timeout_s=0.9)))
        assert likeliest(answer["gap"]) == "blue"


def test_a_request_that_comes_too_late_is_no_sign_of_a_busy_service(new_batcher):
    late = submit(new_batcher(), job(head("gap"), timeout_s=-1))
    with pytest.raises(DeadlineExceeded):
        late.done.result(PATIENCE_S)


def test_expired_jobs_never_reach_the_engine(new_batcher):
    batcher, base = new_batcher(), backbone(HeldBackbone())
    gap = head("gap", on=base)
    hold(batcher, base)
    expired, alive = job(gap, timeout_s=0.06, colour="red"), job(gap, colour="green")
    submit(batcher, expired, alive)
    wait_until(lambda: expired.deadline.left_s() < 0)
    base.network.release.set()
    with pytest.raises(DeadlineExceeded, match=r"within its 0\.06 seconds"):
        expired.done.result(PATIENCE_S)
    [answer] = answers(alive)
    assert likeliest(answer["gap"]) == "green"
    assert base.network.sizes == [1, 1]


def test_cancelled_jobs_never_reach_the_engine_and_free_their_place_at_once(new_batcher):
    batcher, base = new_batcher(max_queued_images=3), backbone(HeldBackbone())
    gap = head("gap", on=base)
    hold(batcher, base)
    gone, alive = job(gap, colour="red"), job(gap, colour="green")
    submit(batcher, gone, alive)
    gone.done.cancel()
    assert batcher.capacity.pending == 2
    late = job(gap, colour="blue")
    submit(batcher, late)
    base.network.release.set()
    assert [likeliest(answer["gap"]) for answer in answers(alive, late)] == ["green", "blue"]
    assert base.network.sizes == [1, 2]


def test_a_backbone_all_of_whose_jobs_are_gone_is_not_run(new_batcher):
    batcher, held, idle = new_batcher(), backbone(HeldBackbone()), backbone()
    hold(batcher, held)
    jobs = [job(head("gap", on=idle)) for _ in range(3)]
    submit(batcher, *jobs)
    for one in jobs:
        one.done.cancel()
    held.network.release.set()
    wait_until(lambda: batcher.capacity.pending == 0)
    answers(submit(batcher, job(head("gap"))))
    assert idle.network.sizes == []


def test_a_job_cancelled_while_it_runs_harms_nobody(new_batcher):
    batcher, base = new_batcher(), backbone(HeldBackbone())
    running = hold(batcher, base)
    assert not running.done.cancel()
    base.network.release.set()
    assert answers(running)


def test_a_head_that_raises_fails_only_the_jobs_that_asked_for_it(new_batcher):
    batcher, base = new_batcher(), backbone(HeldBackbone())
    gap, broken = head("gap", on=base), head("broken", BrokenHead(), on=base)
    hold(batcher, base)
    well, ill, both = job(gap, colour="green"), job(broken), job(broken, gap)
    submit(batcher, ill, well, both, job(gap))
    base.network.release.set()
    [answer] = answers(well)
    assert likeliest(answer["gap"]) == "green"
    for one in (ill, both):
        with pytest.raises(EngineFailed):
            one.done.result(PATIENCE_S)
    assert base.network.sizes == [1, 4]


class ShortHead(EchoHead):
    """Loses a row."""

    def compute(self, batch):
        return super().compute(batch)[1:]


def test_a_head_that_loses_a_row_answers_nobody_wrong(new_batcher):
    batcher, base = new_batcher(), backbone(HeldBackbone())
    gap, short = head("gap", on=base), head("short", ShortHead(), on=base)
    hold(batcher, base)
    well, ill, also_ill = job(gap), job(short), job(short)
    submit(batcher, ill, well, also_ill)
    base.network.release.set()
    assert answers(well)
    for one in (ill, also_ill):
        with pytest.raises(EngineFailed):
            one.done.result(PATIENCE_S)


class BrokenOnce(MeanBackbone):
    """Fails the first time."""

    def compute(self, batch):
        if len(self.batches) == 1:
            raise MemoryError("no memory")
        return super().compute(batch)


def test_a_backbone_that_raises_fails_its_batch_and_the_next_one_runs(new_batcher):
    batcher, base = new_batcher(), backbone(BrokenOnce())
    with pytest.raises(EngineFailed):
        answers(submit(batcher, job(head("gap", on=base))))
    assert answers(submit(batcher, job(head("gap", on=base))))


def test_closing_ends_the_thread_and_leaves_no_waiter_hanging():
    batcher, base = Batcher(Capacity()), backbone(HeldBackbone(), max_batch_size=1)
    running = hold(batcher, base)
    queued, decoding = job(head("gap", on=base)), job(head("gap", on=base))
    submit(batcher, queued)
    seat(batcher, decoding)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    wait_until(lambda: batcher.is_closed)
    base.network.release.set()
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    assert answers(running)
    for one in (queued, decoding):
        with pytest.raises(NotReady, match="stopping"):
            one.done.result(PATIENCE_S)
    assert batcher.capacity.pending == 0
    assert not any(thread.name == "engine" for thread in threading.enumerate())


def test_a_closed_batcher_admits_nobody():
    batcher = Batcher(Capacity())
    batcher.close()
    batcher.close()
    with pytest.raises(NotReady, match="stopping"):
        submit(batcher, job(head("gap")))
    assert batcher.capacity.pending == 0


class Jittery(FakeNetwork):
    """Takes random time, and fails now and then."""

    def __init__(self, network, seed):
        super().__init__()
        self._network = network
        self._random = random.Random(seed)

    def compute(self, batch):
        time.sleep(self._random.choice([0, 0, 0.0005, 0.002]))
        if self._random.random() < 0.1:
            raise RuntimeError("now and then")
        return self._network.compute(batch)


def test_a_storm_of_clients_that_leave_fail_and_expire_leaves_nothing_behind(new_batcher):
    batcher = new_batcher(max_queued_images=16)
    bases = [backbone(Jittery(MeanBackbone(), seed)) for seed in range(2)]
    heads = [head(f"h{n}", Jittery(EchoHead(), n), on=bases[n % 2]) for n in range(4)]
    wrong = []

    def client(seed):
        choose = random.Random(seed)
        for _ in range(150):
            colour = choose.choice(list(COLOURS))
            base = choose.randrange(2)
            wanted = [heads[base], heads[base + 2]][: choose.randrange(1, 3)]
            one = job(*wanted, colour=colour, timeout_s=choose.choice([0.0005, 0.01, PATIENCE_S]))
            try:
                submit(batcher, one)
                time.sleep(choose.choice([0, 0.001]))
                if choose.random() < 0.3 and one.done.cancel():
                    continue
                [answer] = answers(one)
            except (TooBusy, DeadlineExceeded, EngineFailed):
                continue
            if {likeliest(p) for p in answer.values()} != {colour} or len(answer) != len(wanted):
                wrong.append((colour, answer))

    clients = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
    for one in clients:
        one.start()
    for one in clients:
        one.join(3 * PATIENCE_S)
    assert not any(one.is_alive() for one in clients)
    assert wrong == []


def test_a_job_that_comes_after_the_end_starts_no_thread():
    batcher, late = Batcher(Capacity()), job(head("gap"))
    batcher.close()
    batcher.put(late)
    with pytest.raises(NotReady, match="stopping"):
        late.done.result(0)
    assert not any(thread.name == "engine" for thread in threading.enumerate())


def test_each_batch_is_told_with_the_head_of_each_of_its_answers():
    told = []
    batcher, base = Batcher(Capacity(), lambda *batch: told.append(batch)), backbone(HeldBackbone())
    gap, flatten, broken = (
        head("gap", on=base),
        head("flatten", on=base),
        head("b", BrokenHead(), on=base),
    )
    first = hold(batcher, base)
    jobs = [job(gap), job(gap, flatten), job(broken), job(gap)]
    submit(batcher, *jobs)
    base.network.release.set()
    answers(first, jobs[0], jobs[1], jobs[3])
    batcher.close()
    assert [images for images, _ in told] == [1, 4]
    assert told[1][1] == [gap, gap, flatten, gap]


def test_the_log_of_a_failed_batch_names_the_requests_in_it(new_batcher, caplog):
    batcher, base = new_batcher(), backbone(HeldBackbone())
    good, broken = head("good", on=base), head("broken", BrokenHead(), on=base)
    hold(batcher, base)
    jobs = [asked_by("a", broken), asked_by("b", good), asked_by("c", broken), asked_by("a", broken)]
    submit(batcher, *jobs)
    base.network.release.set()
    answers(jobs[1])
    with pytest.raises(EngineFailed):
        answers(jobs[0])
    (record,) = (record for record in caplog.records if record.exc_info)
    assert record.request_id == "a c"


def asked_by(request_id, *heads):
    token = logs.request_id.set(request_id)
    try:
        return job(*heads)
    finally:
        logs.request_id.reset(token)


class Told:
    """Fails each time that it is told of a batch."""

    def __init__(self, error):
        self.error, self.batches = error, 0

    def __call__(self, *_):
        self.batches += 1
        raise self.error


def test_what_is_told_of_batches_may_fail_and_every_request_is_answered(new_batcher, caplog):
    telling = Told(ValueError("a label that is none"))
    batcher = new_batcher(on_batch=telling)
    for _ in range(3):
        assert answers(submit(batcher, job(head("gap"))))
    assert telling.batches == 3
    assert caplog.text.count("a label that is none") == 3
    assert not batcher.has_ended()


class BrokenClock(Capacity):
    """Fails once, after the batch has run and before its jobs are answered."""

    is_broken = True

    def observe(self, job_s):
        if self.is_broken:
            self.is_broken = False
            raise ZeroDivisionError("no jobs")
        super().observe(job_s)


def test_a_fault_after_the_batch_fails_its_jobs_and_the_thread_goes_on():
    batcher = Batcher(BrokenClock())
    with pytest.raises(EngineFailed):
        submit(batcher, job(head("gap"))).done.result(PATIENCE_S)
    assert answers(submit(batcher, job(head("gap"))))
    batcher.close()


class Ending(MeanBackbone):
    """Ends the thread that computes with it."""

    def compute(self, batch):  # noqa: ARG002 (it ends whatever it is given)
        sys.exit(1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_has_ended_all_the_same_is_told():
    batcher = Batcher(Capacity())
    assert not batcher.has_ended()
    submit(batcher, job(head("gap", on=backbone(Ending()))))
    wait_until(batcher.has_ended)
    batcher.close()
    assert not batcher.has_ended()


class GoneAtTheLastMoment(Future):
    """Is cancelled between the look at whether it is wanted and the start of its batch."""

    def set_running_or_notify_cancel(self):
        self.cancel()
        return super().set_running_or_notify_cancel()


@pytest.mark.parametrize(("gone", "sizes"), [(1, [4, 2, 1]), (2, [4, 2]), (7, [1])])
def test_jobs_cancelled_at_the_last_moment_leave_only_batches_of_a_warm_size(new_batcher, gone, sizes):
    batcher, base = new_batcher(), backbone(HeldBackbone())
    gap = head("gap", on=base)
    hold(batcher, base)
    staying = [job(gap, colour=(number, number, number)) for number in range(8 - gone)]
    leaving = [job(gap) for _ in range(gone)]
    for one in leaving:
        one.done = GoneAtTheLastMoment()
    submit(batcher, *leaving, *staying)
    base.network.release.set()
    answers(*staying)
    assert base.network.sizes == [1, *sizes]
    ran = [int(image[0, 0, 0]) for batch in base.network.batches[1:] for image in batch]
    assert ran == list(range(8 - gone)), "they run in their order, each once"


def test_an_engine_that_hangs_does_not_hold_up_the_end(caplog):
    batcher, base = Batcher(Capacity(), stop_s=0.1), backbone(HeldBackbone())
    running = hold(batcher, base)
    batcher.close()
    assert "did not finish its batch" in caplog.text
    with pytest.raises(NotReady, match="stopping"):
        running.done.result(0)
    base.network.release.set()
    wait_until(lambda: not any(thread.name == "engine" for thread in threading.enumerate()))
