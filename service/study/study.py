"""The study: all heads of a store in one table, with conclusions."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.benchmark.bench import Bench
from service.benchmark.plan import cards_in
from service.benchmark.report import MeasuredHead, Report
from service.errors import HeadUnavailable, NoReport
from service.store.card import Card
from service.store.layout import Store
from service.study import pairs
from service.study.pareto import pareto
from service.study.road import Road, roads
from service.study.rows import Candidate, StudyRow


@dataclass(frozen=True)
class Study:
    """The study; `best` names heads, `notes` belong below the table, `pair_notes` below the pairs."""

    rows: tuple[StudyRow, ...]
    best: frozenset[str]
    notes: tuple[str, ...]
    pairs: tuple[pairs.Pair, ...]
    pair_notes: tuple[str, ...]
    roads: tuple[Road, ...]

    @property
    def shifts(self) -> list[int]:
        """The shifts in pixels of all heads."""
        return sorted({shift.pixels for one in self.tested for shift in one.experiment.shifts})

    @property
    def tested(self) -> list[Candidate]:
        return _tested(self.rows)

    @property
    def groups(self) -> list[list[Candidate]]:
        """Groups of heads that were tested on the same pictures."""
        keys = dict.fromkeys(one.pictures for one in self.tested)
        return [[one for one in self.tested if one.pictures == key] for key in keys]


def study_of(bench: Bench) -> Study:
    """Studies the newest readable version of each head. Raises CommandError for an empty store."""
    cards, unreadable = _cards(bench.store)
    report = _report(bench, cards)
    rows = [StudyRow(card, _measured(report, card)) for card in cards]
    tested = _tested(rows)
    judged = pareto(tested)
    notes = [judged.note] if tested else []
    return Study(
        rows=tuple(rows),
        best=judged.best,
        notes=(*notes, *_notes(rows, report), *unreadable),
        pairs=tuple(pairs.pairs(tested)),
        pair_notes=tuple(pairs.notes(tested)),
        roads=tuple(roads(tested)),
    )


def _tested(rows: Sequence[StudyRow]) -> list[Candidate]:
    return [Candidate(row, row.experiment) for row in rows if row.experiment]


def _cards(store: Store) -> tuple[list[Card], list[str]]:
    """The cards, and the reasons why other heads have none."""
    heads = store.heads()
    if not heads:
        return cards_in(store, None), []  # cards_in raises CommandError for an empty store.
    cards, reasons = [], []
    for head in heads:
        try:
            cards += cards_in(store, [head])
        except HeadUnavailable as exc:
            reasons.append(str(exc))
    return cards, reasons


def _report(bench: Bench, cards: Sequence[Card]) -> Report | None:
    try:
        return bench.last({card.head: card.version for card in cards})
    except NoReport:
        return None


def _measured(report: Report | None, card: Card) -> MeasuredHead | None:
    """The card's row for the report's first engine: figures of two engines are not comparable."""
    rows = report.heads if report else ()
    for row in rows:
        if (row.head, row.version, row.engine) == (card.head, card.version, rows[0].engine):
            return row
    return None


def _notes(rows: Sequence[StudyRow], report: Report | None) -> list[str]:
    told = ["Accuracy: on held-out pictures; the mean over seeds and its 95 % interval by Student's t."]
    if untested := [row.head for row in rows if not row.experiment]:
        told.append(f"Not compared, because `train` did not make them: {', '.join(untested)}.")
    if report is None:
        return [*told, "Nothing was measured on this host; measure with: resnet-heads benchmark"]
    machine = report.machine
    measured = (
        f"Latency (p50 of single pictures) and memory (resident) on {report.heads[0].engine}: "
        f"measured {report.started:%Y-%m-%d} on {machine.host}, {machine.cpu}"
    )
    others = "" if report.measured_here else "; the processor, libraries or heads have changed since"
    return [*told, f"{measured}{others}."]
