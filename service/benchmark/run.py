"""A run: a memory pass with one child at a time, then a latency pass in which children take turns."""

import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.benchmark.children import A, Child, Children
from service.benchmark.headroom import weight_bytes
from service.benchmark.orders import Loaded, Order, Task, Turn
from service.benchmark.plan import Subject
from service.benchmark.report import Growth, MeasuredHead, Memory, Ratio
from service.benchmark.summary import median_ratio, summarise
from service.errors import BadParameter, HeadUnavailable, VersionError
from service.store.layout import NotCompiled, NotForEngine, Store

COMMAND = (sys.executable, "-m", "service.benchmark.child")

NETWORK_FILES = "network.*"  # Matches the files of every engine.

ROUNDS = 10  # The least number of rounds, where the time given allows it.
MIN_TURN_S = 0.05
MAX_TURN_S = 0.5
RATIO_S = 0.25  # Seconds that the bootstrap of one ratio takes.

Rounds = list[Sequence[float]]  # Latencies in ms, a sequence for each round.


@dataclass(frozen=True)
class Entrant:
    """A subject with its warmed-up child; `rounds` holds latencies by batch size."""

    subject: Subject
    child: Child
    loaded: Loaded
    rounds: dict[int, Rounds]

    @property
    def rounds_done(self) -> int:
        return min(map(len, self.rounds.values()))


@dataclass(frozen=True)
class Run:
    """The parameters of a run; `end` is monotonic time. `on_progress` is called with each order."""

    store: Store
    threads: int
    subjects: Sequence[Subject]
    batch_sizes: Sequence[int]
    end: float
    children: Children
    command: Sequence[str] = COMMAND
    on_progress: Callable[[str], None] = lambda _: None

    def weigh(self) -> list[Memory]:
        """Runs the memory pass. Raises BadParameter or HeadUnavailable if a subject cannot be opened.

        Raises BenchmarkFailed or TimeoutError too, as the later steps do.
        """
        # Read the sizes before any child starts.
        file_bytes = [self._file_bytes(subject) for subject in self.subjects]
        return list(map(self._memory, self.subjects, file_bytes))

    def time(self) -> list[Entrant]:
        """Runs the latency pass. Rounds alternate (A B, B A), so that drift affects all heads alike."""
        entrants = [self._enter(subject) for subject in self.subjects]
        end = self.end - RATIO_S * len(self._pairs(entrants)) * len(self.batch_sizes)
        turns = len(self.batch_sizes) * len(entrants)
        turn_s = min(max((end - time.monotonic()) / (ROUNDS * turns), MIN_TURN_S), MAX_TURN_S)
        self._round(entrants, turn_s)
        order = itertools.cycle((entrants[::-1], entrants))
        # A timeout ends the last round, which is then not counted.
        with contextlib.suppress(TimeoutError):
            while time.monotonic() < end - turns * turn_s:
                self._round(next(order), turn_s)
        return entrants

    def ratios(self, entrants: Sequence[Entrant]) -> list[Ratio]:
        """The ratios of each pair that differs in one thing, for each batch size."""
        return [
            _ratio(over, below, size)
            for below, over in self._pairs(entrants)
            for size in self.batch_sizes
        ]

    def _pairs(self, entrants: Sequence[Entrant]) -> list[tuple[Entrant, Entrant]]:
        pairs = itertools.combinations(entrants, 2)
        return [(one, other) for one, other in pairs if one.subject.differs_in_one(other.subject)]

    def _memory(self, subject: Subject, file_bytes: int) -> Memory:
        child = self._start(subject)
        growth = self._ask(child, Order(do="weigh"), Growth)
        child.close()
        return Memory(
            weights_mb=weight_bytes(subject.card) / 1e6,
            file_mb=file_bytes / 1e6,
            **growth.model_dump(),
        )

    def _file_bytes(self, subject: Subject) -> int:
        card, engine = subject.card, subject.engine
        try:
            folders = (self.store.backbone_of(card, engine), self.store.head_of(card, engine))
        except NotForEngine as exc:
            raise BadParameter(f"engines: {subject}: {exc}") from exc
        except NotCompiled as exc:
            command = f"resnet-heads compile {card.head} --version {card.version} --engine {engine}"
            raise HeadUnavailable(card.head, f"{exc}; run: {command}") from exc
        except VersionError as exc:
            raise HeadUnavailable(card.head, str(exc)) from exc
        return sum(file.stat().st_size for folder in folders for file in folder.glob(NETWORK_FILES))

    def _enter(self, subject: Subject) -> Entrant:
        child = self._start(subject)
        loaded = self._ask(child, Order(do="load"), Loaded)
        return Entrant(subject, child, loaded, {size: [] for size in self.batch_sizes})

    def _round(self, entrants: Sequence[Entrant], turn_s: float) -> None:
        """Lets each child take a turn for each batch size. A round counts only if it is complete."""
        done = []
        for size, entrant in itertools.product(self.batch_sizes, entrants):
            order = Order(do="turn", batch_size=size, seconds=turn_s)
            done.append((entrant.rounds[size], self._ask(entrant.child, order, Turn).latencies_ms))
        for rounds, latencies_ms in done:
            rounds.append(latencies_ms)

    def _start(self, subject: Subject) -> Child:
        card = subject.card
        task = Task(
            store_dir=str(self.store.root),
            cache_dir=str(self.store.cache),
            engine=subject.engine,
            threads=self.threads,
            head=card.head,
            version=card.version,
            batch_sizes=tuple(self.batch_sizes),
        )
        return self.children.start(str(subject), [*self.command, task.model_dump_json()])

    def _ask(self, child: Child, order: Order, answer: type[A]) -> A:
        self.on_progress(f"{child.name}: {order}")
        return child.ask(order, answer, self.end)


def measured(entrant: Entrant, memory: Memory) -> MeasuredHead:
    """The report's row of one subject."""
    card, first_call_ms = entrant.subject.card, entrant.loaded.first_call_ms
    return MeasuredHead(
        head=card.head,
        version=card.version,
        engine=entrant.subject.engine,
        precision=card.precision,
        head_weights=card.head_weights,
        computes_in=entrant.loaded.computes_in,
        classes=len(card.labels),
        parameters=card.backbone.parameters + card.structure.parameters,
        load_ms=entrant.loaded.load_ms,
        latency=tuple(
            summarise(size, first_ms, list(itertools.chain(*rounds)))
            for (size, rounds), first_ms in zip(entrant.rounds.items(), first_call_ms, strict=True)
        ),
        memory=memory,
    )


def _ratio(over: Entrant, below: Entrant, batch_size: int) -> Ratio:
    ratio, low, high = median_ratio(over.rounds[batch_size], below.rounds[batch_size])
    return Ratio(
        head=over.subject.card.head,
        engine=over.subject.engine,
        to_head=below.subject.card.head,
        to_engine=below.subject.engine,
        batch_size=batch_size,
        ratio=ratio,
        low=low,
        high=high,
    )
