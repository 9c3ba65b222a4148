"""The entry point of commands and routes to benchmarks: one run at a time, and the last report."""

import contextlib
import itertools
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import ValidationError

from service.benchmark import headroom, machine
from service.benchmark.children import Children
from service.benchmark.plan import Plan, Subject
from service.benchmark.report import Progress, Report
from service.benchmark.run import COMMAND, Run, measured
from service.errors import BadParameter, BenchmarkFailed, BenchmarkRunning, NoReport
from service.serving.engines import EngineName, has_tensorflow
from service.store.card import Card
from service.store.layout import Store
from service.store.publish import publish_report

log = logging.getLogger(__name__)

OnProgress = Callable[[Progress], None]


@dataclass
class Bench:
    """Measures heads of one store. `answered` counts a server's requests; None without a server."""

    store: Store
    threads: int
    answered: Callable[[], int] | None = None
    available_bytes: Callable[[], int | None] = headroom.available_bytes
    command: Sequence[str] = COMMAND
    _running: threading.Lock = field(default_factory=threading.Lock)
    _unsaved: Report | None = None

    def measure(
        self,
        plan: Plan,
        cards: Sequence[Card],
        engine: EngineName,
        children: Children,
        on_progress: OnProgress = lambda _: None,
    ) -> Report:
        """Measures the cards, on `engine` if the plan names none, and stores the report.

        Blocks for up to `plan.seconds`; `children.stop()` ends it from another thread. Raises
        BadParameter, BenchmarkRunning, HeadUnavailable, or TooLittleMemory before the run starts, and
        BenchmarkFailed at any time.
        """
        subjects = Subject.every(cards, plan.engines or [engine])
        if plan.heads is None:
            subjects = [subject for subject in subjects if subject.is_runnable()] or subjects
        if any(subject.engine == "keras" for subject in subjects) and not has_tensorflow():
            raise BadParameter("engines: keras needs TensorFlow, which is not installed.")
        if not self._running.acquire(blocking=False):
            raise BenchmarkRunning
        try:
            headroom.check(subjects, max(plan.batch_sizes), self.available_bytes())
            with children:
                report = self._run(plan, subjects, children, on_progress)
            self._save(report)
        except TimeoutError as exc:
            raise BenchmarkFailed(str(exc)) from exc
        finally:
            self._running.release()
        return report

    def is_running(self) -> bool:
        """Whether a run is under way."""
        return self._running.locked()

    def last(self, serving: Mapping[str, int]) -> Report:
        """The last report of this host; `serving` holds the versions that serve now. Raises NoReport."""
        here = machine.describe()
        report = self._unsaved or self._read(here.host)
        if report is None:
            raise NoReport
        is_same = all(serving.get(head.head, head.version) == head.version for head in report.heads)
        return report.model_copy(update={"measured_here": is_same and report.machine == here})

    def has_report(self) -> bool:
        """Whether this host has a report."""
        return self._read(machine.describe().host) is not None

    def _run(
        self,
        plan: Plan,
        subjects: Sequence[Subject],
        children: Children,
        on_progress: OnProgress,
    ) -> Report:
        started, clock = datetime.now(UTC), time.monotonic()
        answered = self.answered() if self.answered else 0
        run = Run(
            store=self.store,
            threads=self.threads,
            subjects=subjects,
            batch_sizes=list(dict.fromkeys(plan.batch_sizes)),
            end=clock + plan.seconds,
            children=children,
            command=self.command,
            on_progress=_telling(on_progress, clock, plan.seconds),
        )
        memory, entrants = run.weigh(), run.time()
        children.stop()
        return Report(
            started=started,
            machine=machine.describe(),
            threads=self.threads,
            rounds=entrants[0].rounds_done,
            requests_meanwhile=self.answered() - answered if self.answered else None,
            heads=tuple(map(measured, entrants, memory)),
            ratios=tuple(run.ratios(entrants)),
            seconds=time.monotonic() - clock,
        )

    def _save(self, report: Report) -> None:
        """Stores the report. If the disk refuses it, the report stays in memory for `last`."""
        try:
            publish_report(self.store, _file_name(report.machine.host), report.model_dump_json(indent=1))
            self._unsaved = None
        except OSError as exc:
            log.warning("the report could not be stored: %s", exc)
            self._unsaved = report

    def _read(self, host: str) -> Report | None:
        """Reads a report; None if there is none, or one that this release cannot parse."""
        with contextlib.suppress(OSError, ValidationError):
            return Report.model_validate_json(self.store.report(_file_name(host)).read_bytes())
        return None


def _telling(on_progress: OnProgress, started: float, seconds: float) -> Callable[[str], None]:
    """Wraps `on_progress` for callers that only know the current step; `started` is monotonic time."""
    steps = itertools.count(1)

    def tell(doing: str) -> None:
        elapsed_s = time.monotonic() - started
        on_progress(
            Progress(
                step=next(steps),
                doing=doing,
                elapsed_s=elapsed_s,
                of_seconds=seconds,
                share=min(1.0, elapsed_s / seconds),
            )
        )

    return tell


def _file_name(host: str) -> str:
    return re.sub(r"[^\w.-]", "_", host)
