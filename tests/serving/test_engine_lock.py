import threading
import time

from waiting import PATIENCE_S

from service.serving.engine_lock import EngineLock

LONG_S = 0.5  # whoever waits has as long to wake up, on a busy machine too


def test_two_never_compute_at_once():
    engine_lock, inside, most = EngineLock(), 0, 0

    def compute():
        nonlocal inside, most
        for _ in range(50):
            with engine_lock:
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1

    threads = [threading.Thread(target=compute) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert most == 1


def test_who_waits_is_next_however_many_turns_another_takes():
    engine_lock, order, began = EngineLock(), [], threading.Event()

    def load():
        for _ in range(3):
            with engine_lock:
                order.append("load")
                began.set()
                time.sleep(LONG_S)
            engine_lock.let_others()

    loading = threading.Thread(target=load)
    loading.start()
    for _ in range(3):
        assert began.wait(PATIENCE_S)
        with engine_lock:
            order.append("request")
            began.clear()
    loading.join(PATIENCE_S)
    assert order == ["load", "request"] * 3


def test_a_turn_that_fails_is_over():
    engine_lock = EngineLock()
    try:
        with engine_lock:
            raise ValueError
    except ValueError:
        pass
    with engine_lock:
        pass
