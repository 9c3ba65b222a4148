"""The thread that looks at a store: when it does, and what it says."""

import errno
import threading
import time

import pytest
from fakes import FakeEngine, MeanBackbone, fake_heads, head, publish
from stored import after, empty, filled, heads_of, io_error, publish_compiled_files
from waiting import wait_until

from service.serving.watch import STOP_S, Watch
from service.store.layout import Store


@pytest.fixture
def store(tmp_path):
    return filled(tmp_path, "gap")


@pytest.fixture
def watch(caplog):
    """`watch(heads, poll_s)` begins to; it returns what `on_ready` was given. It ends with the test."""
    stopping, begun = threading.Event(), []

    def begin(heads, poll_s, retry_s=0.01):
        ready = []
        begun.append(Watch(heads, ready.append, poll_s, stopping, retry_s))
        begun[-1].start()
        return ready

    yield begin
    stopping.set()
    for one in begun:
        one.join()
    assert "it is left at that" not in caplog.text


@pytest.mark.parametrize("poll_s", [0, 0.01, 3600], ids=["never", "often", "rarely"])
def test_a_first_load_that_failed_is_tried_until_it_succeeds(store, watch, poll_s, caplog):
    heads = heads_of(store, after(*(io_error() for _ in range(5))))
    ready = watch(heads, poll_s)
    wait_until(lambda: ready)
    assert ready == [["gap"]]
    assert heads.missing(("gap",)) == []
    told = [one for one in caplog.records if one.name == "service.serving.watch"]
    assert [one.getMessage() for one in told] == [
        "not ready: Heads could not be loaded: OSError: [Errno 5] Input/output error"
    ]
    assert told[0].exc_info, "the log has the whole story, once"


def test_larger_batches_are_warmed_once_heads_serve(store, watch):
    heads = heads_of(store)
    ready = watch(heads, 0)
    wait_until(lambda: ready and heads.get("gap").backbone.warm_sizes == [1, 2, 4])


class OnlySmall(MeanBackbone):
    """Has no memory for more than two images."""

    def compute(self, batch):
        if len(batch) > 2:
            raise MemoryError("no memory")
        return super().compute(batch)


def test_where_a_larger_batch_cannot_be_warmed_smaller_ones_are_served(store, watch, caplog):
    heads = heads_of(store, lambda: FakeEngine(nb=OnlySmall()))
    ready = watch(heads, 0.01)
    wait_until(lambda: "larger batches could not be warmed" in caplog.text)
    assert ready == [["gap"]]
    assert heads.get("gap").backbone.warm_sizes == [1, 2]
    time.sleep(0.1)
    assert caplog.text.count("larger batches could not be warmed") == 1, "told once, not at every look"


def test_with_a_poll_of_0_a_store_that_was_loaded_is_not_looked_at_again(store, watch):
    heads = heads_of(store, after(io_error()))
    ready = watch(heads, 0)
    wait_until(lambda: ready)
    publish(store)
    time.sleep(0.2)
    assert heads.get("gap").card.version == 1


def test_with_a_poll_of_0_a_version_that_memory_was_short_for_is_tried_again(store, watch):
    engine = FakeEngine(ne=MemoryError())
    heads = heads_of(store, lambda: engine)
    ready = watch(heads, 0)
    wait_until(lambda: engine.opened.count("e") > 3)
    assert not ready
    engine.networks.clear()
    wait_until(lambda: ready == [["gap"]])


def test_heads_that_come_later_are_announced_when_they_serve(tmp_path, watch, caplog):
    store = empty(tmp_path)
    ready = watch(heads_of(store), 0.01)
    wait_until(lambda: "not ready: The store is empty" in caplog.text)
    publish_compiled_files(store)
    publish(store)
    wait_until(lambda: ready == [["gap"]])


def test_a_store_that_cannot_be_looked_at_is_told_once_and_then_looked_at_again(store, watch, caplog):
    errors = []

    class Disk(Store):
        def heads(self):
            if errors:
                raise errors.pop()
            return super().heads()

    heads = heads_of(Disk(store.root, store.cache))
    ready = watch(heads, 0.01)
    wait_until(lambda: ready)
    errors.extend(io_error() for _ in range(5))
    wait_until(lambda: not errors)
    publish(store)
    wait_until(lambda: heads.get("gap").card.version == 2)
    assert caplog.text.count("the store could not be read; the loaded heads go on serving") == 1
    assert ready == [["gap"]], "it served all the time"


def test_whoever_is_told_that_heads_are_ready_cannot_end_the_thread(store, caplog):
    stopping = threading.Event()

    def broken_pipe(_):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    heads = heads_of(store)
    one = Watch(heads, broken_pipe, 0.01, stopping)
    one.start()
    wait_until(heads.has_loaded)
    publish(store)
    wait_until(lambda: heads.get("gap").card.version == 2)
    stopping.set()
    one.join()
    assert "heads are ready, but on_ready failed" in caplog.text


def test_a_load_that_hangs_is_left_behind(caplog):
    stopping, hold = threading.Event(), threading.Event()
    one = Watch(fake_heads(head("gap"), hold=hold), lambda _: None, 0, stopping)
    one.start()
    stopping.set()
    began = time.monotonic()
    one.join()
    assert time.monotonic() - began < STOP_S + 2
    assert "the service stops without it" in caplog.text
    hold.set()
    one.join()
