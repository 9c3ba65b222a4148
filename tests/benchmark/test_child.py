"""The real child on the small store, as its parent sees it."""

import os
import signal
import subprocess
import sys
import time

import children
import pytest
from waiting import wait_until

from service.benchmark.children import Children
from service.benchmark.orders import Loaded, Order, Turn
from service.benchmark.report import Growth

SECONDS = 60


@pytest.fixture
def start(small_store):
    """A child that works on gap."""
    with Children() as processes:
        end = time.monotonic() + SECONDS
        child = children.start(processes, small_store, "gap", (1, 2))
        yield child, lambda order, answer: child.ask(order, answer, end)


def test_it_loads_and_takes_turns_as_long_as_told(start):
    _, ask = start
    loaded = ask(Order(do="load"), Loaded)
    assert loaded.load_ms > 0
    assert len(loaded.first_call_ms) == 2
    began = time.monotonic()
    one = ask(Order(do="turn", batch_size=1, seconds=0.5), Turn).latencies_ms
    assert time.monotonic() - began >= 0.5
    two = ask(Order(do="turn", batch_size=2, seconds=0), Turn).latencies_ms
    assert sum(one[:-1]) < 500, "the last has begun in time"
    assert len(two) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_it_weighs_its_weights_at_least(start):
    _, ask = start
    growth = ask(Order(do="weigh"), Growth)
    assert growth.resident_mb == pytest.approx(growth.anonymous_mb + growth.file_backed_mb)
    assert 94 < growth.resident_mb < 600
    assert growth.peak_mb >= growth.resident_mb
    assert 0 < growth.marginal_mb < 50
    assert growth.reason is None


def test_it_ends_with_its_stdin_whatever_it_is_doing(start):
    child, _ = start
    child.process.stdin.write(Order(do="load").model_dump_json().encode() + b"\n")
    child.process.stdin.write(
        Order(do="turn", batch_size=1, seconds=SECONDS).model_dump_json().encode() + b"\n"
    )
    child.process.stdout.readline()
    time.sleep(0.2)
    assert children.is_alive(child.process.pid)
    child.process.stdin.close()
    assert child.process.wait(SECONDS / 2) == 0


def test_it_imports_what_serving_does_and_no_tensorflow():
    code = (
        "import sys, service.benchmark.child; print({'tensorflow', 'keras', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run(children.python(code), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_kill_9_of_the_parent_leaves_no_child(small_store):
    command = [sys.executable, "-m", "service", "benchmark", "--store-dir", str(small_store.root)]
    with subprocess.Popen([*command, "--seconds", str(SECONDS)], stderr=subprocess.DEVNULL) as parent:
        wait_until(lambda: len(children.of(parent.pid)) == 2, SECONDS)  # they take turns
        orphans = children.of(parent.pid)
        os.kill(parent.pid, signal.SIGKILL)
        wait_until(lambda: children.are_gone(orphans))
