"""The child process of a benchmark. It takes orders on stdin and answers on stdout, in JSON lines.

It ends as soon as stdin closes, even in the middle of an order, because its parent has then ended. It
imports and runs only what serving does, so that its memory is comparable.
"""

import os
import queue
import sys
import threading
import time
from io import TextIOWrapper
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.benchmark.memory import NOT_TOLD, Scale
from service.benchmark.orders import Answer, Loaded, Order, Task, Turn
from service.benchmark.report import Growth
from service.serving.engines import Network, open_engine
from service.store.layout import Store

SEED = 0

Orders = queue.SimpleQueue[Order]


class Work:
    """The measurements of one head in this process."""

    def __init__(self, task: Task) -> None:
        self._store = Store(Path(task.store_dir), Path(task.cache_dir))
        self._card = self._store.card(task.head, task.version)
        self._engine = open_engine(task.engine, task.threads)
        rng, shape = np.random.default_rng(SEED), (self._card.input.height, self._card.input.width, 3)
        self._batches = {
            size: rng.integers(0, 256, (size, *shape), np.uint8) for size in task.batch_sizes
        }

    def answer(self, order: Order) -> Answer:
        """Carries out the order; `load` must come before `turn`."""
        if order.do == "load":
            return self._load()
        if order.do == "weigh":
            return self._weigh()
        return self._turn(self._batches[order.batch_size], order.seconds)

    def _load(self) -> Loaded:
        started = time.perf_counter()
        self._backbone, self._head = self._open_backbone(), self._open_head()
        load_ms = _ms_since(started)
        first_call_ms = tuple(self._call(batch) for batch in self._batches.values())
        for batch in self._batches.values():
            self._call(batch)
        computes_in = self._engine.computes_in(self._card.precision)
        return Loaded(load_ms=load_ms, first_call_ms=first_call_ms, computes_in=computes_in)

    def _turn(self, batch: NDArray[np.uint8], seconds: float) -> Turn:
        end = time.perf_counter() + seconds
        latencies_ms = [self._call(batch)]
        while time.perf_counter() < end:
            latencies_ms.append(self._call(batch))
        return Turn(latencies_ms=tuple(latencies_ms))

    def _weigh(self) -> Growth:
        """Measures memory; loads the backbone first, so that the head's part is known."""
        try:
            scale = Scale()
        except OSError:
            return Growth(reason=NOT_TOLD)
        backbone = self._open_backbone()
        for batch in self._batches.values():
            backbone(batch)
        with_backbone = scale.growth()
        head = self._open_head()
        for batch in self._batches.values():
            head(np.zeros((len(batch), *self._card.backbone.feature_shape), np.float32))
        grown, peak = scale.growth(), scale.peak_bytes()
        return Growth(
            resident_mb=grown.total / 1e6,
            anonymous_mb=grown.anonymous / 1e6,
            file_backed_mb=grown.file_backed / 1e6,
            peak_mb=None if peak is None else peak / 1e6,
            marginal_mb=(grown - with_backbone).total / 1e6,
            reason="an older peak hides peak_mb" if peak is None else None,
        )

    def _open_backbone(self) -> Network:
        folder = self._store.backbone_of(self._card, self._engine.name)
        return self._engine.open(folder, self._card.precision)

    def _open_head(self) -> Network:
        return self._engine.open_head(self._store.head_of(self._card, self._engine.name))

    def _call(self, batch: NDArray[np.uint8]) -> float:
        started = time.perf_counter()
        self._head(self._backbone(batch))
        return _ms_since(started)


def main() -> None:
    """Carries out orders for the task in sys.argv[1] until stdin closes."""
    answers = _claim_stdout()
    orders = Orders()
    threading.Thread(target=_take_orders, args=(orders,), daemon=True).start()
    work = Work(Task.model_validate_json(sys.argv[1]))
    while True:
        answers.write(work.answer(orders.get()).model_dump_json() + "\n")


def _take_orders(orders: Orders) -> None:
    for line in sys.stdin:
        orders.put(Order.model_validate_json(line))
    os._exit(0)


def _claim_stdout() -> TextIOWrapper:
    """Reserves stdout for answers: output of libraries goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers


def _ms_since(started: float) -> float:
    return 1e3 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
