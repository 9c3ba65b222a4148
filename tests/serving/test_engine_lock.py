import threading
import time

from service.serving.engine_lock import Turn


def test_two_never_compute_at_once():
    turn, inside, most = Turn(), 0, 0

    def compute():
        nonlocal inside, most
        for _ in range(50):
            with turn:
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1

    threads = [threading.Thread(target=compute) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == 1


def test_who_waits_is_next_however_many_turns_another_takes():
    turn, waited, is_over = Turn(), [], threading.Event()

    def load():
        while not is_over.is_set():
            with turn:
                time.sleep(0.02)
            turn.let_others()

    loading = threading.Thread(target=load)
    loading.start()
    for _ in range(20):
        time.sleep(0.003)
        asked = time.perf_counter()
        with turn:
            waited.append(time.perf_counter() - asked)
    is_over.set()
    loading.join(20)
    assert sorted(waited)[15] < 0.04, "it waited for more than the turn that was under way"


def test_a_turn_that_fails_is_over():
    turn = Turn()
    try:
        with turn:
            raise ValueError
    except ValueError:
        pass
    with turn:
        pass
