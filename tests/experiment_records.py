"""Heads with experiments written by hand, and reports of them."""

from datetime import UTC, datetime

import numpy as np
from fakes import card

from service.benchmark import machine
from service.benchmark.report import Latency, MeasuredHead, Memory, Report
from service.store.card import (
    Backbone,
    Epoch,
    Experiment,
    Interval,
    SeedRun,
    Shift,
    SizePoint,
    Training,
)
from service.study.rows import Candidate, StudyRow

DATA = "d" * 64
TRUTH = (0, 0, 0, 1, 1, 1, 2, 2, 2, 2)


def experiment(accuracies=(0.8, 0.9, 0.7), wrong=(), **changes) -> Experiment:
    """`accuracies` by seed, from 0; the published weights are wrong on the pictures at `wrong`."""
    predicted = tuple((true + (at in wrong)) % 3 for at, true in enumerate(TRUTH))
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (TRUTH, predicted), 1)
    fields = {
        "data": DATA,
        "backbone": "imagenet",
        "learning_rate": 0.01,
        "weight_decay": 0.001,
        "runs": [
            SeedRun(seed=seed, epochs=3, validation_loss=0.5, accuracy=accuracy)
            for seed, accuracy in enumerate(accuracies)
        ],
        "accuracy": Interval(mean=float(np.mean(accuracies)), low=0.51, high=0.99),
        "top5": 1,
        "macro_f1": 0.8,
        "log_loss": 0.5,
        "calibration_error": 0.1,
        "truth": TRUTH,
        "predicted": predicted,
        "confusion": counts.tolist(),
        "learning_curve": [
            Epoch(train_loss=1.5, validation_loss=1.75, validation_accuracy=0.25),
            Epoch(train_loss=0.5, validation_loss=1.25, validation_accuracy=0.625),
        ],
        "shifts": [
            Shift(pixels=4, accuracy=0.75, agreement=0.9),
            Shift(pixels=16, accuracy=0.5, agreement=0.6),
        ],
        "sizes": [SizePoint(images_per_class=8, accuracy=Interval(mean=0.5, low=0.25, high=0.75))],
        "features_seconds": 1,
        "peak_mb": 900,
    }
    return Experiment.model_validate(fields | changes)


def training(told: Experiment | None = None) -> Training:
    return Training(images_train=20, images_test=10, seed=0, seconds=12.4, accuracy=0.8, experiment=told)


def trained(head="gap", told: Experiment | None = None, measured=None, **changes) -> Candidate:
    """A head with an experiment, on a map of 7x7."""
    fields = {
        "training": training(told or experiment()),
        "backbone": Backbone(digest="b" * 64, parameters=1000, feature_shape=(7, 7, 8)),
    }
    row = StudyRow(card(head, **(fields | changes)), measured)
    return Candidate(row, row.experiment)


def measured(head="gap", p50_ms=30.0, resident_mb=300.0, **changes) -> MeasuredHead:
    times = dict.fromkeys(("p90_ms", "p95_ms", "p99_ms", "mean_ms", "stdev_ms", "images_per_s"), 99)
    latency = [
        Latency(batch_size=size, n=9, first_call_ms=99, p50_ms=p50, **times)
        for size, p50 in ((8, 77.7), (1, p50_ms))
    ]
    fields = {
        "head": head,
        "version": 1,
        "engine": "openvino",
        "classes": 3,
        "parameters": 1012,
        "load_ms": 99,
        "latency": latency,
        "memory": Memory(weights_mb=99, file_mb=99, resident_mb=resident_mb),
    }
    return MeasuredHead.model_validate(fields | changes)


def report(*heads: MeasuredHead) -> Report:
    return Report(
        started=datetime(2026, 1, 2, tzinfo=UTC),
        seconds=9,
        machine=machine.describe(),
        threads=2,
        rounds=9,
        requests_meanwhile=None,
        heads=heads,
        ratios=(),
    )
