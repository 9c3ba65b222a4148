import numpy as np
from experiment_records import experiment, measured, report, training
from fakes import publish, source, structure

from service.store.card import Backbone
from service.store.publish import publish_report
from service.study.study import study_of
from service.study.table import show_study

ACCURACIES = [0.8, 0.9, 0.7]


def lines(bench, capsys):
    show_study(study_of(bench))
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_each_head_has_a_line_with_what_is_known_and_dashes_elsewhere(bench, capsys):
    kept = source("0" * 64, 94_260_000)
    publish(bench.store, "flatten", training=training(experiment(ACCURACIES)), source=kept)
    publish(bench.store, "imported")
    told = lines(bench, capsys)
    assert told[0] == (
        "head best accuracy % 95 % interval shifted 4 px % shifted 16 px % "
        "train s parameters in the head model MB resident MB p50 ms"
    )
    assert (
        told[1]
        == f"flatten v1 * {100 * np.mean(ACCURACIES):.1f} 51.0 to 99.0 75.0 50.0 12 112 12 94.3 - -"
    )
    assert told[2] == "imported v1 - - - - - 112 12 - - -"
    assert all(line.isascii() for line in told)


def test_costs_end_the_line(bench, capsys):
    publish(bench.store, "gap")
    last = report(measured(p50_ms=31.45, resident_mb=314.15))
    publish_report(bench.store, last.machine.host, last.model_dump_json())
    assert lines(bench, capsys)[1].endswith(" 112 12 - 314.1 31.4")


def test_pairs_are_told_in_a_line_each_however_long(bench, capsys):
    for head in ("flatten", "gap"):
        publish(bench.store, head, training=training(experiment(ACCURACIES)))
    told = lines(bench, capsys)
    (sentence,) = (line for line in told if line.startswith("flatten and gap: "))
    assert sentence == (
        "flatten and gap: no difference was found (flatten was right on 0.0 points more pictures "
        "than gap; 95 % interval 0.0 to 0.0 over 3 seeds; by picture p = 1.000)."
    )


def test_the_road_is_a_table_of_its_own(bench, capsys):
    average = structure("average", 1200, filter=(6, 6), stride=(1, 1))
    for head, pooling in {"gap": structure(), "average": average}.items():
        publish(
            bench.store,
            head,
            training=training(experiment(ACCURACIES)),
            structure=pooling,
            backbone=Backbone(digest="b" * 64, parameters=100, feature_shape=(7, 7, 8)),
        )
    assert lines(bench, capsys)[-3:] == [
        "pooling road filter cells accuracy % 95 % interval in the head",
        "average 6x6 2x2 80.0 51.0 to 99.0 1,200",
        "gap 7x7 1x1 80.0 51.0 to 99.0 12",
    ]
