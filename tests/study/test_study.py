"""Which versions and which figures of the report a study is of."""

import pytest
from experiment_records import experiment, measured, report, training
from fakes import publish

from service.benchmark.bench import Bench
from service.errors import CommandError
from service.store.layout import CARD
from service.store.publish import publish_report
from service.study.study import study_of


def measure(bench: Bench, *heads) -> None:
    """Makes a report of these heads the last of this host."""
    last = report(*heads)
    publish_report(bench.store, last.machine.host, last.model_dump_json())


def test_it_is_of_the_newest_readable_version_of_each_head(bench):
    for accuracy in (0.5, 0.6, 0.7):
        publish(bench.store, "gap", training=training(experiment([accuracy])))
    (bench.store.folder("gap", 3) / CARD).write_text("{}")
    (row,) = study_of(bench).rows
    assert (row.card.version, row.accuracy.mean) == (2, 0.6)


def test_a_head_without_a_readable_version_is_told_and_the_others_are_compared(bench):
    publish(bench.store, "broken")
    publish(bench.store, "gap", training=training(experiment()))
    (bench.store.folder("broken", 1) / CARD).write_text("{}")
    study = study_of(bench)
    assert [row.head for row in study.rows] == ["gap"]
    assert study.notes[-1].startswith(
        "Head 'broken' is not available: version 1: card.json is not valid"
    )


def test_costs_are_those_of_the_same_version_in_the_last_report(bench):
    for head in ("flatten", "gap", "gap"):
        publish(bench.store, head, training=training(experiment()))
    measure(bench, measured("gap", 20, 200), measured("flatten", 31.4, 314))
    flatten, gap = study_of(bench).rows
    assert (flatten.latency_ms, flatten.resident_mb) == (31.4, 314)
    assert (gap.card.version, gap.latency_ms, gap.resident_mb) == (2, None, None)


def test_costs_on_two_engines_are_not_mixed(bench):
    for head in ("flatten", "gap"):
        publish(bench.store, head)
    measure(
        bench,
        measured("gap", 20),
        measured("gap", 50, engine="keras"),
        measured("flatten", 60, engine="keras"),
    )
    flatten, gap = study_of(bench).rows
    assert (flatten.latency_ms, gap.latency_ms) == (None, 20)


def test_a_report_without_single_pictures_gives_no_latency(bench):
    publish(bench.store, "gap")
    measure(bench, measured(latency=measured().latency[:1]))
    assert study_of(bench).rows[0].latency_ms is None


def test_it_says_where_and_when_costs_were_measured(bench):
    publish(bench.store, "gap")
    assert study_of(bench).notes[-1].endswith("measure with: resnet-heads benchmark")
    measure(bench, measured())
    told = study_of(bench).notes[-1]
    assert told.startswith(
        "Latency (p50 of single pictures) and memory (resident) on openvino: measured 2026-01-02"
    )
    assert "changed since" not in told
    publish(bench.store, "gap")
    assert study_of(bench).notes[-1].endswith("; the processor, libraries or heads have changed since.")


def test_heads_without_an_experiment_are_named_and_not_compared(bench):
    publish(bench.store, "demo", training=training())
    publish(bench.store, "imported")
    study = study_of(bench)
    assert (study.best, study.pairs, study.roads) == (frozenset(), (), ())
    assert "Not compared, because `train` did not make them: demo, imported." in study.notes
    demo, imported = study.rows
    assert (demo.accuracy.mean, demo.accuracy.low, demo.seconds) == (0.8, None, 12.4)
    assert (imported.accuracy, imported.seconds, imported.model_mb) == (None, None, None)


def test_heads_are_grouped_by_the_pictures_they_were_tested_on(bench):
    publish(bench.store, "a", training=training(experiment()))
    publish(bench.store, "b", training=training(experiment(data="a" * 64)))
    publish(bench.store, "c", training=training(experiment()))
    groups = study_of(bench).groups
    assert [[one.head for one in group] for group in groups] == [["a", "c"], ["b"]]


def test_an_empty_store_is_refused(bench):
    with pytest.raises(CommandError, match="is empty"):
        study_of(bench)
