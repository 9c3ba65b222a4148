import asyncio
import random
import threading
import time

import numpy as np
import pytest
from fakes import (
    COLOURS,
    INPUT,
    LABELS,
    PATIENCE_S,
    BrokenHead,
    HeldBackbone,
    SlowHead,
    backbone,
    fake_heads,
    head,
    picture,
)
from waiting import until, wait_until

from service.errors import (
    DeadlineExceeded,
    EngineFailed,
    ImageTooLarge,
    NotAnImage,
    NotReady,
    TooBusy,
    TooManyJobs,
)
from service.serving.batcher import Batcher
from service.serving.capacity import Capacity, Permit
from service.serving.classifier import Classifier, rank

TRUNCATED = picture("red", (64, 64))[:-30]
MAX_PIXELS = 2000 * 2000


@pytest.fixture
def new_classifier():
    """Makes classifiers. Afterwards none has an image left, and none keeps a thread when closed."""
    made = []

    def make(decode_threads=2, **bounds):
        batcher = Batcher(Capacity(**bounds))
        made.append(Classifier(fake_heads(), batcher, decode_threads, MAX_PIXELS))
        return made[-1]

    yield make
    for classifier in made:
        wait_until(lambda classifier=classifier: classifier.capacity.pending == 0)
        classifier.close()
    assert not any(thread.name.startswith(("engine", "decode")) for thread in threading.enumerate())


def classify(classifier, images, *heads, timeout_s=PATIENCE_S):
    return classifier.classify([*images], heads, classifier.capacity.permit(timeout_s))


def told(classified):
    """The likeliest label of each image by each head."""
    return [
        {name: LABELS[int(np.argmax(p))] for name, p in of_image.items()}
        for of_image in classified.images
    ]


async def entered(base):
    assert await asyncio.to_thread(base.network.entered.wait, PATIENCE_S)


def test_images_are_answered_in_their_order(new_classifier):
    colours = ["green", "red", "blue", "blue", "red"] * 4
    images = [picture(colour) for colour in colours]
    classified = asyncio.run(classify(new_classifier(), images, head("gap")))
    assert told(classified) == [{"gap": colour} for colour in colours]


def test_heads_that_share_take_one_backbone_pass(new_classifier):
    shared = backbone()
    gap, flatten = head("gap", on=shared), head("flatten", on=shared)
    classified = asyncio.run(classify(new_classifier(), [picture("blue")], gap, flatten))
    assert told(classified) == [{"gap": "blue", "flatten": "blue"}]
    assert shared.network.sizes == [1]
    assert classified.heads == (gap, flatten)


def test_heads_on_their_own_backbones_all_answer_each_image(new_classifier):
    shared, wide = backbone(), backbone(spec=INPUT.model_copy(update={"height": 4, "width": 16}))
    heads = [head("gap", on=shared), head("far", on=wide), head("flatten", on=shared)]
    images = [picture("red"), picture("green"), picture("blue")]
    classified = asyncio.run(classify(new_classifier(), images, *heads))
    assert told(classified) == [dict.fromkeys(("gap", "far", "flatten"), colour) for colour in COLOURS]
    assert {batch.shape[1:] for batch in shared.network.batches} == {(8, 8, 3)}
    assert {batch.shape[1:] for batch in wide.network.batches} == {(4, 16, 3)}


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize(
    ("bad", "error"),
    [(TRUNCATED, NotAnImage), (b"", NotAnImage), (picture("red", (2001, 2000)), ImageTooLarge)],
)
def test_a_bad_image_is_named_by_its_index(new_classifier, index, bad, error):
    images = [picture("red")] * 3
    images[index] = bad
    with pytest.raises(error) as refused:
        asyncio.run(classify(new_classifier(), images, head("gap"), head("far")))
    assert refused.value.index == index
    assert str(refused.value).startswith(f"Image {index}: ")


def pixels(colour, size=(8, 8)):
    return np.full((*size, 3), COLOURS[colour], np.uint8)


def test_pixels_are_answered_in_their_order_among_files(new_classifier):
    images = [pixels("green"), picture("red"), pixels("blue")]
    classified = asyncio.run(classify(new_classifier(), images, head("gap")))
    assert told(classified) == [{"gap": "green"}, {"gap": "red"}, {"gap": "blue"}]


class HeldPermit(Permit):
    """Keeps the decoder that gives back the bytes of a file until `release` is set."""

    def __init__(self, capacity):
        super().__init__(capacity, PATIENCE_S)
        self.entered, self.release = threading.Event(), threading.Event()

    def give_back(self, size):
        self.entered.set()
        assert self.release.wait(PATIENCE_S), "nobody released the decoder"
        super().give_back(size)


def test_pixels_do_not_wait_for_a_decoder(new_classifier):
    classifier = new_classifier(decode_threads=1)
    permit = HeldPermit(classifier.capacity)

    async def beside_a_file():
        await classifier.classify([picture("red")], [head("gap")], permit)
        assert await asyncio.to_thread(permit.entered.wait, PATIENCE_S)
        soon = {"timeout_s": PATIENCE_S / 2}
        return await classify(classifier, [pixels("blue")], head("gap"), **soon)

    try:
        assert told(asyncio.run(beside_a_file())) == [{"gap": "blue"}]
    finally:
        permit.release.set()


@pytest.mark.parametrize("bad", [pixels("red", (8, 9)), pixels("red")[..., :1], pixels("red")[0]])
def test_pixels_of_another_shape_than_the_head_takes_are_refused(new_classifier, bad):
    with pytest.raises(NotAnImage) as refused:
        asyncio.run(classify(new_classifier(), [pixels("red"), bad], head("gap")))
    assert refused.value.index == 1


def test_a_bad_image_fails_its_own_request_only(new_classifier):
    classifier, base = new_classifier(), backbone(HeldBackbone())
    gap = head("gap", on=base)

    async def together():
        first = asyncio.create_task(classify(classifier, [picture("red")], gap))
        await entered(base)
        before = asyncio.create_task(classify(classifier, [picture("green"), picture("blue")], gap))
        bad = asyncio.create_task(classify(classifier, [picture("red"), TRUNCATED], gap))
        after = asyncio.create_task(classify(classifier, [picture("blue")], gap))
        with pytest.raises(NotAnImage) as refused:
            await bad
        await until(lambda: classifier.capacity.pending == 4)
        base.network.release.set()
        return refused.value.index, [told(each) for each in await asyncio.gather(first, before, after)]

    assert asyncio.run(together()) == (
        1,
        [[{"gap": "red"}], [{"gap": "green"}, {"gap": "blue"}], [{"gap": "blue"}]],
    )
    assert sum(base.network.sizes) == 4


def test_a_broken_head_fails_its_own_request_only(new_classifier):
    classifier, shared = new_classifier(), backbone()
    gap, broken = head("gap", on=shared), head("broken", BrokenHead(), on=shared)

    async def together():
        requests = [classify(classifier, [picture("green")], one) for one in (gap, broken, gap)]
        return await asyncio.gather(*requests, return_exceptions=True)

    well, ill, also_well = asyncio.run(together())
    assert told(well) == told(also_well) == [{"gap": "green"}]
    assert isinstance(ill, EngineFailed)


def test_what_is_not_done_by_its_deadline_is_dropped_before_the_engine(new_classifier):
    classifier, base = new_classifier(), backbone(HeldBackbone())
    gap = head("gap", on=base)

    async def late():
        first = asyncio.create_task(classify(classifier, [picture("red")], gap))
        await entered(base)
        with pytest.raises(DeadlineExceeded, match=r"within its 0\.2 seconds"):
            await classify(classifier, [picture("green")] * 3, gap, timeout_s=0.2)
        assert classifier.capacity.pending == 1
        base.network.release.set()
        await first
        await classify(classifier, [picture("blue")], gap)

    asyncio.run(late())
    assert base.network.sizes == [1, 1]


def test_a_deadline_that_has_passed_already_is_exceeded_not_busy(new_classifier):
    with pytest.raises(DeadlineExceeded):
        asyncio.run(classify(new_classifier(), [picture()], head("gap"), timeout_s=-1))


def test_a_client_that_hangs_up_is_dropped_before_the_engine(new_classifier):
    classifier, base = new_classifier(), backbone(HeldBackbone())
    gap = head("gap", on=base)

    async def hang_up():
        first = asyncio.create_task(classify(classifier, [picture("red")], gap))
        await entered(base)
        gone = asyncio.create_task(classify(classifier, [picture("green")] * 3, gap))
        await until(lambda: classifier.capacity.pending == 4)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert classifier.capacity.pending == 1
        base.network.release.set()
        await first
        await classify(classifier, [picture("blue")], gap)

    asyncio.run(hang_up())
    assert base.network.sizes == [1, 1]


def test_a_client_that_hangs_up_while_its_image_is_computed_harms_nobody(new_classifier):
    classifier, base = new_classifier(), backbone(HeldBackbone())
    gap = head("gap", on=base)

    async def hang_up():
        gone = asyncio.create_task(classify(classifier, [picture("green")], gap))
        await entered(base)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        base.network.release.set()
        return told(await classify(classifier, [picture("blue")], gap))

    assert asyncio.run(hang_up()) == [{"gap": "blue"}]


def test_a_full_queue_refuses_the_whole_request_and_keeps_none_of_it(new_classifier):
    classifier, base = new_classifier(max_queued_images=3), backbone(HeldBackbone())
    gap = head("gap", on=base)

    async def crowd():
        first = asyncio.create_task(classify(classifier, [picture("red")], gap))
        await entered(base)
        second = asyncio.create_task(classify(classifier, [picture("green")] * 3, gap))
        await until(lambda: classifier.capacity.pending == 4)
        with pytest.raises(TooBusy) as refused:
            await classify(classifier, [picture("blue")] * 3, gap)
        assert refused.value.retry_after_s >= 1
        assert classifier.capacity.pending == 4
        base.network.release.set()
        await asyncio.gather(first, second)

    asyncio.run(crowd())
    assert sum(base.network.sizes) == 4


def test_more_passes_than_one_request_may_ask_for_are_refused_for_good(new_classifier):
    classifier = new_classifier(max_jobs_per_request=5)
    heads = [head("one"), head("other")]
    classified = asyncio.run(classify(classifier, [picture("red")] * 2, *heads))
    assert len(classified.images) == 2
    with pytest.raises(TooManyJobs, match="asks for 6 passes"):
        asyncio.run(classify(classifier, [picture("red")] * 3, *heads))


def test_a_request_larger_than_the_queue_waits_like_any_other(new_classifier):
    classifier, base = new_classifier(max_queued_images=4), backbone(HeldBackbone())

    async def one_behind_the_other():
        first = asyncio.create_task(classify(classifier, [picture("red")], head("gap", on=base)))
        await entered(base)
        large = asyncio.create_task(classify(classifier, [picture("blue")] * 75, head("gap", on=base)))
        await until(lambda: classifier.capacity.pending == 76)
        base.network.release.set()
        await first
        return await large

    assert len(asyncio.run(one_behind_the_other()).images) == 75


def test_the_bytes_of_a_file_come_back_when_its_pixels_exist_and_not_when_they_are_computed(
    new_classifier,
):
    classifier, base = new_classifier(), backbone(HeldBackbone())
    gap, file = head("gap", on=base), picture("red", (64, 64))

    async def held():
        first = asyncio.create_task(classify(classifier, [file], gap))
        await entered(base)
        permit, images = classifier.capacity.permit(PATIENCE_S), [file, file]
        await permit.charge(2 * len(file))
        with permit:
            second = asyncio.create_task(classifier.classify(images, [gap], permit))
            await until(lambda: classifier.capacity.bytes_in_flight == 0)
            assert images == [], "nothing holds the files any more"
            assert classifier.capacity.pending == 3
            base.network.release.set()
            await asyncio.gather(first, second)

    asyncio.run(held())


@pytest.mark.parametrize("fault", [MemoryError("no memory"), RuntimeError("can't start new thread")])
def test_a_fault_while_an_image_is_queued_fails_its_request_and_not_the_next(new_classifier, fault):
    classifier, put = new_classifier(), Batcher.put

    class Full(Batcher):
        is_full = True

        def put(self, job):
            if self.is_full:
                self.is_full = False
                raise fault
            put(self, job)

    classifier.batcher = Full(classifier.capacity)
    with pytest.raises(type(fault)):
        asyncio.run(classify(classifier, [picture("red")], head("gap")))
    assert asyncio.run(classify(classifier, [picture("red")], head("gap"))).images


@pytest.mark.parametrize(
    ("images", "slow"),
    [([picture("red", (2000, 2000), "JPEG")], 0), ([picture("red", (90, 90))] * 12, 0.05)],
    ids=["mostly decoding", "mostly inference and waiting"],
)
def test_the_stages_add_up_to_no_more_than_the_wall_time(new_classifier, images, slow):
    classifier, gap = new_classifier(), head("gap", SlowHead(slow))

    async def timed():
        started = time.perf_counter()
        classified = await classify(classifier, images, gap)
        return classified.stages, 1e3 * (time.perf_counter() - started)

    stages, wall_ms = asyncio.run(timed())
    assert min(stages.decode_ms, stages.queue_ms, stages.inference_ms) >= 0
    assert stages.decode_ms + stages.queue_ms + stages.inference_ms <= wall_ms
    assert stages.inference_ms >= 1e3 * slow


def test_waiting_for_a_busy_engine_is_queue_time(new_classifier):
    classifier, base = new_classifier(), backbone(HeldBackbone())
    gap = head("gap", on=base)

    async def behind():
        first = asyncio.create_task(classify(classifier, [picture("red")], gap))
        await entered(base)
        second = asyncio.create_task(classify(classifier, [pixels("red")], gap))
        await until(lambda: classifier.capacity.pending == 2)
        queued = time.perf_counter()
        await asyncio.sleep(0.1)
        held_ms = 1e3 * (time.perf_counter() - queued)
        base.network.release.set()
        await first
        return (await second).stages, held_ms

    stages, held_ms = asyncio.run(behind())
    assert stages.queue_ms >= held_ms


def test_closing_leaves_no_request_hanging(new_classifier):
    classifier, base = new_classifier(decode_threads=1), backbone(HeldBackbone(), max_batch_size=1)
    gap = head("gap", on=base)

    async def close():
        first = asyncio.create_task(classify(classifier, [picture("red")], gap))
        await entered(base)
        waiting = [
            asyncio.create_task(classify(classifier, [picture("green", (99, 99))] * 6, gap))
            for _ in range(3)
        ]
        await until(lambda: classifier.capacity.pending == 19)
        closing = asyncio.create_task(asyncio.to_thread(classifier.close))
        await until(lambda: classifier.batcher.is_closed)
        base.network.release.set()
        await closing
        assert told(await first) == [{"gap": "red"}]
        for one in waiting:
            with pytest.raises(NotReady, match="stopping"):
                await one
        with pytest.raises(NotReady, match="stopping"):
            await classify(classifier, [picture()], gap)

    asyncio.run(close())


def test_a_storm_of_requests_is_answered_right_or_refused(new_classifier):
    classifier = new_classifier(max_queued_images=20)
    shared = backbone()
    heads = [head("gap", on=shared), head("flatten", on=shared), head("far", SlowHead(0.001))]
    choose = random.Random(1)
    answered = []

    async def client():
        await asyncio.sleep(0.3 * choose.random())
        colours = choose.choices([*COLOURS, "broken"], [5, 5, 5, 1], k=choose.randrange(1, 5))
        wanted = choose.sample(heads, choose.randrange(1, 4))
        images = [TRUNCATED if colour == "broken" else picture(colour) for colour in colours]
        timeout_s = choose.choice([0.002, 0.02, PATIENCE_S])
        work = asyncio.create_task(classify(classifier, images, *wanted, timeout_s=timeout_s))
        if choose.random() < 0.2:
            await asyncio.sleep(0.005 * choose.random())
            work.cancel()
        try:
            classified = await work
        except NotAnImage as exc:
            return colours[exc.index] == "broken"
        except (asyncio.CancelledError, TooBusy, DeadlineExceeded):
            return True
        answered.append(classified)
        return told(classified) == [{h.card.head: colour for h in wanted} for colour in colours]

    async def storm():
        return await asyncio.gather(*(client() for _ in range(300)))

    assert all(asyncio.run(storm()))
    assert answered


def test_predictions_are_ranked_likeliest_first():
    assert rank(np.array([0.1, 0.7, 0.2], np.float32), 2) == [1, 2]


def test_equal_probabilities_keep_the_order_of_labels():
    ranked = rank(np.tile(np.float32([0.0005, 0.0015]), 500), 1000)
    assert ranked == [*range(1, 1000, 2), *range(0, 1000, 2)]


def test_more_classes_than_there_are_gives_all_of_them():
    assert rank(np.array([0.5, 0.3, 0.2], np.float32), 100) == [0, 1, 2]
