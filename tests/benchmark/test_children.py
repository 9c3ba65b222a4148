import threading
import time

import pytest
from children import is_alive, python
from waiting import PATIENCE_S

from service.benchmark.children import Children
from service.benchmark.orders import Order, Turn
from service.errors import BenchmarkFailed

TURN = Order(do="turn", batch_size=1, seconds=0.1)


def ask(code):
    with Children() as children:
        child = children.start("gap on openvino", python(code))
        return child.ask(TURN, Turn, time.monotonic() + PATIENCE_S)


def test_an_order_gets_its_answer():
    assert ask("input(); print('{\"latencies_ms\": [1.5]}')").latencies_ms == (1.5,)


def test_an_answer_that_comes_in_pieces_is_one():
    code = (
        "import sys, time; input()\n"
        'for piece in (\'{"latencies_ms"\', ": [1", ".5]}\\n"):\n'
        "    sys.stdout.write(piece); sys.stdout.flush(); time.sleep(0.05)"
    )
    assert ask(code).latencies_ms == (1.5,)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys; input(); sys.exit('out of memory')", "ended (1): out of memory"),
        ("import sys; sys.exit(3)", "ended (3): no message"),
        ("import os; input(); os.kill(os.getpid(), 9)", "ended (-9)"),
        ("input(); print('hello')", "answered b'hello"),
        ("input(); print('{}')", "answered b'{}"),
        ("input(); print('[1]')", "answered b'[1]"),
        ("input(); print('{\"latencies_ms\": []}')", "answered"),
        ("input(); print('x' * 2**25)", "sent more than"),
    ],
)
def test_a_process_that_dies_or_talks_rubbish_is_told_by_its_name(code, told):
    with pytest.raises(BenchmarkFailed) as failure:
        ask(code)
    assert str(failure.value).startswith("gap on openvino: its process")
    assert told in str(failure.value)


def test_a_process_that_hangs_is_given_up_in_time_and_ended():
    with Children() as children:
        child = children.start("gap on openvino", python("input(); input()"))
        with pytest.raises(TimeoutError, match="not measured in the time given"):
            child.ask(TURN, Turn, time.monotonic() + 0.3)
    assert not is_alive(child.process.pid)


def test_a_process_that_says_no_more_and_goes_on_is_ended():
    with pytest.raises(BenchmarkFailed, match=r"ended \(-9\)"):
        ask("import os, time; input(); os.close(1); time.sleep(600)")


def test_stopping_from_another_thread_wakes_whoever_waits():
    with Children() as children:
        child = children.start("gap on openvino", python("input(); input()"))
        threading.Timer(0.2, children.stop).start()
        with pytest.raises(BenchmarkFailed, match="ended"):
            child.ask(TURN, Turn, time.monotonic() + PATIENCE_S)
        with pytest.raises(BenchmarkFailed, match="stopped"):
            children.start("flatten on openvino", python("input()"))


def test_waiting_costs_no_processor_time():
    with Children() as children:
        child = children.start("gap on openvino", python("import time; input(); time.sleep(1)"))
        before = time.thread_time()
        with pytest.raises(BenchmarkFailed):
            child.ask(TURN, Turn, time.monotonic() + PATIENCE_S)
        assert time.thread_time() - before < 0.1


def test_all_are_gone_when_the_block_ends_however_it_ends():
    processes = []

    def interrupted():
        with Children() as children:
            processes.extend(children.start("x", python("input()")).process.pid for _ in range(3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not any(map(is_alive, processes))
