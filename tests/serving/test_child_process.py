import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from children import is_alive, python
from waiting import wait_until

from service.serving import child_process

# writes its process id, and that of a child of its own, and sleeps
SLEEPY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with open(sys.argv[1] + ".new", "w") as file:
    print(os.getpid(), child.pid, file=file)
os.rename(sys.argv[1] + ".new", sys.argv[1])
"""


@pytest.fixture
def ids(tmp_path):
    return tmp_path / "ids"


def processes(ids):
    """Those that SLEEPY has written down."""
    return [int(number) for number in ids.read_text().split()] if ids.exists() else []


@pytest.mark.parametrize(
    ("code", "status", "last_line"),
    [
        ("pass", 0, "no message"),
        ("import sys; print('out'); sys.exit('one\\ntwo')", 1, "two"),
        ("import sys; sys.exit(75)", 75, "no message"),
        ("import os; os.kill(os.getpid(), 9)", -9, "no message"),
        ("import sys; sys.stderr.write('x' * 2**20 + '\\nlast')", 0, "last"),
        ("import sys; sys.stderr.buffer.write(b'\\xff')", 0, "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_it_tells_the_exit_status_and_the_last_line(code, status, last_line):
    assert child_process.run(python(code), 30) == child_process.Ended(status, last_line)


def test_what_takes_too_long_is_killed_with_all_that_it_started(ids):
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="it took longer than 2 s"):
        child_process.run([*python(SLEEPY + "time.sleep(60)"), str(ids)], 2)
    assert time.monotonic() - began < 20
    assert len(processes(ids)) == 2
    wait_until(lambda: not any(map(is_alive, processes(ids))))


def test_what_a_process_leaves_behind_is_ended_too(ids):
    assert child_process.run([*python(SLEEPY), str(ids)], 30).status == 0
    wait_until(lambda: not any(map(is_alive, processes(ids))))


def test_it_is_killed_once_the_service_stops(ids):
    stopping = threading.Event()
    ended = []
    command = [*python(SLEEPY + "time.sleep(60)"), str(ids)]
    running = threading.Thread(
        target=lambda: ended.append(child_process.run(command, 60, stopping)), daemon=True
    )
    running.start()
    wait_until(lambda: processes(ids))
    stopping.set()
    running.join(5)
    assert [one.status for one in ended] == [-signal.SIGKILL]
    wait_until(lambda: not any(map(is_alive, processes(ids))))


def test_its_input_ends_when_whoever_started_it_is_killed(ids):
    inner = SLEEPY.replace("time.sleep(60)", "sys.stdin.read()") + "sys.stdin.read()"
    outer = (
        "import sys; from service.serving import child_process\n"
        f"child_process.run([sys.executable, '-c', {inner!r}, sys.argv[1]], 60)"
    )
    with subprocess.Popen([sys.executable, "-c", outer, str(ids)]) as parent:
        wait_until(lambda: processes(ids))
        os.kill(parent.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(processes(ids)[0]))


def test_what_cannot_be_started_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        child_process.run([str(tmp_path / "nothing")], 1)
