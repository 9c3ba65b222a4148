"""Dynamic batching: queues of single images, and the one thread that computes batches of them.

The thread never waits for a batch to fill: as soon as it is free it takes the queued images, as many as
make a warmed-up batch size. Backbones take turns (round-robin); the jobs of one are taken in the order
of admission, however long their decoding took. capacity.py decides on admission.
"""

import bisect
import contextlib
import itertools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service import logs
from service.errors import DeadlineExceeded, EngineFailed, NotReady
from service.serving.capacity import STOPPING, Capacity
from service.serving.deadline import Deadline
from service.serving.engine_lock import EngineLock
from service.serving.loading import LoadedBackbone, LoadedHead

log = logging.getLogger(__name__)

STOP_S = 10.0

OnBatch = Callable[[int, Iterable[LoadedHead]], None]


@dataclass(frozen=True)
class Trace:
    """The values behind an answer: pixels, features (height, width, channels), logits (units,)."""

    pixels: NDArray[np.uint8]
    features: NDArray[np.float32]
    logits: NDArray[np.float32]


@dataclass
class JobOutputs:
    """Probabilities (classes,) by head name, and traces by head name if the job asks for them."""

    probabilities: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    traces: dict[str, Trace] = field(default_factory=dict)


@dataclass(frozen=True)
class JobResult:
    """The outputs of one job, with the duration in seconds and the end time of its batch."""

    outputs: JobOutputs
    inference_s: float
    finished: float


@dataclass(eq=False)
class Job:
    """One image for one backbone and heads on it. Cancelling the future `done` cancels the job."""

    heads: Sequence[LoadedHead]
    deadline: Deadline
    pixels: NDArray[np.uint8] | None = None
    is_traced: bool = False
    decode_s: float = 0.0
    number: int = field(default_factory=itertools.count().__next__)
    request_id: str = field(default_factory=logs.request_id.get)
    done: Future[JobResult] = field(default_factory=Future)

    @property
    def backbone(self) -> LoadedBackbone:
        return self.heads[0].backbone

    def is_wanted(self) -> bool:
        """Whether the job still needs an answer; an expired job is failed here."""
        if not self.done.done() and self.deadline.left_s() <= 0:
            self.fail(DeadlineExceeded(self.deadline.timeout_s))
        return not self.done.done()

    def is_claimed(self) -> bool:
        """Claims the job, which then cannot be cancelled. Returns False if it was cancelled before."""
        return self.done.running() or self.done.set_running_or_notify_cancel()

    def fail(self, error: Exception, cause: Exception | None = None) -> None:
        """Sets the error as the job's result, unless the job is done or cancelled."""
        error.__cause__ = cause
        with contextlib.suppress(InvalidStateError):
            self.done.set_exception(error)


class Batcher:
    """Runs admitted jobs in batches on its own thread, until closed.

    The thread calls `on_batch` with the number of images in a batch and the head of each answer.
    """

    def __init__(
        self,
        capacity: Capacity,
        on_batch: OnBatch = lambda *_: None,
        engine_lock: EngineLock | None = None,
        stop_s: float = STOP_S,
    ) -> None:
        self.capacity = capacity
        self._on_batch = on_batch
        self._engine_lock = engine_lock or EngineLock()
        self._stop_s = stop_s
        self._queues: OrderedDict[LoadedBackbone, list[Job]] = OrderedDict()
        self._changed = threading.Condition()
        self.is_closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def has_ended(self) -> bool:
        """Whether the thread has died without `close`, so that no job is answered any more."""
        return self._thread.ident is not None and not self._thread.is_alive() and not self.is_closed

    def put(self, job: Job) -> None:
        """Queues an admitted job that has its pixels."""
        with self._changed:
            if self.is_closed:
                job.fail(NotReady(STOPPING))
                return
            queue = self._queues.setdefault(job.backbone, [])
            bisect.insort(queue, job, key=lambda queued: queued.number)
            self._changed.notify()
            if self._thread.ident is None:  # This is the first job.
                self._thread.start()

    def close(self) -> None:
        """Ends the thread after its current batch; waiting and later jobs raise NotReady.

        After STOP_S a thread that hangs is abandoned; as a daemon thread it ends with the process.
        """
        with self._changed:
            self.is_closed = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(self._stop_s)
            if self._thread.is_alive():
                log.error("the engine did not finish its batch in time; its thread is abandoned")
        self.capacity.close()

    def _run(self) -> None:
        while not self.is_closed:
            batch: list[Job] = []
            try:
                batch = self._take()
                if batch:
                    self._execute(batch)
            except Exception as exc:
                log.exception("a batch of %d failed", len(batch), extra=_asked_by(batch))
                for job in batch:
                    job.fail(EngineFailed(), exc)

    def _take(self) -> list[Job]:
        """The next batch, of one backbone; empty once closed, or if no job is wanted any more."""
        with self._changed:
            self._changed.wait_for(lambda: self.is_closed or self._queues)
            if self.is_closed:
                return []
            backbone, queue = self._queues.popitem(last=False)
            wanted = [job for job in queue if job.is_wanted()]
            waiting = iter(wanted)
            # A job may be cancelled until it is claimed, so count again what is left.
            most = _most(backbone, len(wanted))
            claimed = list(itertools.islice(filter(Job.is_claimed, waiting), most))
            taken = _most(backbone, len(claimed))
            if left := [*claimed[taken:], *waiting]:
                self._queues[backbone] = left
            return claimed[:taken]

    def _execute(self, batch: Sequence[Job]) -> None:
        with self._engine_lock:
            started = time.perf_counter()
            answers = _compute(batch)
        finished = time.perf_counter()
        self.capacity.observe((finished - started) / len(batch))
        answered = [pair for pair in zip(batch, answers, strict=True) if not pair[0].done.done()]
        self._tell(len(batch), [head for job, _ in answered for head in job.heads])
        for job, outputs in answered:
            job.done.set_result(JobResult(outputs, finished - started, finished))

    def _tell(self, images: int, answering: Iterable[LoadedHead]) -> None:
        """Calls `on_batch`. Its errors are logged, so that the jobs are answered in any case."""
        try:
            self._on_batch(images, answering)
        except Exception:
            log.exception("on_batch failed; the jobs are still answered")


def _most(backbone: LoadedBackbone, jobs: int) -> int:
    """The largest batch size, of those that the backbone is warm for, that `jobs` images fill."""
    return max((size for size in backbone.warm_sizes if size <= jobs), default=0)


def _compute(batch: Sequence[Job]) -> list[JobOutputs]:
    """Runs the backbone once over the batch, then each head on the rows that ask for it.

    An error in a head fails only the jobs that asked for that head.
    """
    features = batch[0].backbone.network(
        np.stack([job.pixels for job in batch if job.pixels is not None])
    )
    answers = [JobOutputs() for _ in batch]
    for head in dict.fromkeys(head for job in batch for head in job.heads):
        rows = [row for row, job in enumerate(batch) if head in job.heads]
        name = head.card.head
        try:
            outputs = head.network(features if len(rows) == len(batch) else features[rows]).copy()
            for row, probabilities in zip(rows, outputs, strict=True):
                answers[row].probabilities[name] = probabilities
            for at, row in enumerate(rows):
                if batch[row].is_traced and (pixels := batch[row].pixels) is not None:
                    logits = head.network.logits()[at].copy()
                    answers[row].traces[name] = Trace(pixels, features[row].copy(), logits)
        except Exception as exc:
            asked = [batch[row] for row in rows]
            log.exception("head %s failed on a batch of %d", name, len(rows), extra=_asked_by(asked))
            for job in asked:
                job.fail(EngineFailed(), exc)
    return answers


def _asked_by(jobs: Iterable[Job]) -> dict[str, str]:
    """The `extra` of a log record: the ids of the jobs' requests."""
    return {"request_id": " ".join(dict.fromkeys(job.request_id for job in jobs))}
