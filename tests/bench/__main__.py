"""`make bench`: measures the figures of docs/figures.md on this machine, and prints them as a table.

usage: PYTHONPATH=tests python -m bench [alternatives|serve|look|fleet|protocols|lab|all] [ROUNDS]

Whatever is compared is measured in turns within each round, so that a machine that drifts or is busy
moves both sides of a ratio alike; the table has the median of the rounds.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from bench import alternatives, fleet, look, picture, protocols, stores
from bench.figures import Figures
from bench.measure import InProcess, closed_loop, report, seconds_to_ready
from process import resident_mb, serving

from service.benchmark import machine
from service.console import track

PARTS = ("alternatives", "serve", "look", "fleet", "protocols", "lab")
ROUNDS = 10
STARTS = 7
CLIENTS = 16
REQUESTS = 500
MANY = 1000  # classes
INT8_WEIGHTS = {1: 1.15, 8: 1.1}  # at most so much of GAP's latency, by batch size
FOLDER = Path(sys.prefix)


def main() -> None:
    parser = argparse.ArgumentParser("bench")
    parser.add_argument("part", nargs="?", choices=("all", *PARTS), default="all")
    parser.add_argument("rounds", nargs="?", type=int, default=ROUNDS)
    asked = parser.parse_args()
    figures = Figures()
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "picture.jpg"
        body.write_bytes(picture.jpeg())
        if asked.part in ("all", "alternatives"):
            print(alternatives.measure(figures, FOLDER, asked.rounds, body) + "\n")
        if asked.part in ("all", "serve"):
            served(figures, asked.rounds, body)
        if asked.part in ("all", "look"):
            look.measure(figures, FOLDER, asked.rounds, body)
        if asked.part in ("all", "fleet"):
            fleet.measure(figures, FOLDER, asked.rounds, body)
        if asked.part in ("all", "protocols"):
            protocols.measure(figures, FOLDER, asked.rounds, body)
    if asked.part in ("all", "lab"):
        from bench import lab  # TensorFlow is in it, and would be beside what is measured above

        lab.measure(figures, FOLDER, asked.rounds)
    here = machine.describe()
    versions = ", ".join(f"{name} {here.versions[name]}" for name in ("python", "openvino"))
    print(f"{here.cpu}, {here.cores} cores; {versions}; {asked.rounds} rounds; ", end="")
    print(f"{len(picture.jpeg()) / 1e3:.0f} KB JPEG of {picture.SIZE[0]}x{picture.SIZE[1]}\n")
    print(figures.table())
    if missed := figures.missed():
        print(f"\nshort of the target: {'; '.join(missed)}")


def served(figures: Figures, rounds: int, body: Path) -> None:
    """What the service adds to its engine, and what the heads cost on it."""
    demo, thousand = stores.demo(FOLDER), stores.thousand(FOLDER)
    alone = InProcess(thousand, "gap")
    quiet = ("--log-level", "warning")
    with serving(thousand, *quiet) as one, serving(demo, *quiet) as two:
        for _ in track(range(rounds), rounds, "Measuring"):
            one_backbone(figures, alone, one.url, body)
            sharing(figures, two.url, body)
    start(figures, demo)
    memory(figures, demo, body)
    for classes in (MANY, 10):
        heads(figures, classes)


def one_backbone(figures: Figures, alone: InProcess, url: str, body: Path) -> None:
    """The server against the engine and the decoder that it uses, 1000 classes, both ways to decode."""
    throughput = []
    urls = {decode: f"{url}/predict?head={head}" for decode, head in stores.THOUSAND.items()}
    for decode, target in urls.items():
        decode_ms = alone.decode_ms(body.read_bytes(), decode, 0.5)
        call_ms = np.median(alone.latencies_ms(1, 1.5))
        single = closed_loop([target], 1, 3, body)
        engine = alone.latencies_ms(8, 3)
        many = closed_loop([target], CLIENTS, 8, body)
        throughput.append(many.per_second())
        figures.add(
            single.outside(), f"outside decode and inference, one client, p50, {decode}", "ms", 1.6
        )
        figures.add(
            single.p(50) / (decode_ms + call_ms),
            f"one client, p50 / (decode + engine at batch 1), {decode}",
            at_most=1.15,
        )
        figures.add(
            throughput[-1] / (8e3 / engine.mean()),
            f"throughput, 16 clients / engine at batch 8, {decode}",
            at_least={"scaled": 0.9, "exact": 0.8}[decode],
        )
        mean_ms = CLIENTS / throughput[-1] * 1e3
        figures.add(
            many.p(95) / mean_ms, f"p95 at 16 clients / (16 / throughput), {decode}", at_most=1.25
        )
    both = closed_loop(list(urls.values()), CLIENTS, 6, body)
    figures.add(
        both.per_second() / np.mean(throughput), "half the clients on each of two backbones / on one"
    )


def sharing(figures: Figures, url: str, body: Path) -> None:
    """Two heads on one backbone, 16 classes."""
    flatten, gap = (f"{url}/predict?head={head}" for head in ("flatten", "gap"))
    one_head = closed_loop([flatten], CLIENTS, 6, body).per_second()
    halves = closed_loop([flatten, gap], CLIENTS, 6, body).per_second()
    name = "half the clients on each of two sharing heads / on one"
    figures.add(halves / one_head, name, at_least=0.95)
    slower = max(closed_loop([head], 1, 2, body).p(50) for head in (flatten, gap))
    both = closed_loop([f"{url}/compare"], 1, 2, body).p(50)
    figures.add(both / slower, "/compare on two sharing heads / the slower alone, p50", at_most=1.15)


def start(figures: Figures, store: stores.Store) -> None:
    """`serve` on a store that is compiled."""
    for _ in range(STARTS):
        figures.add(seconds_to_ready(store), "serve, demo store, process start to ready", "s", 2.5)


def memory(figures: Figures, store: stores.Store, body: Path) -> None:
    """`serve` after requests for both heads."""
    with serving(store, "--log-level", "warning") as server:
        urls = [f"{server.url}/predict?head={head}" for head in ("flatten", "gap")]
        answered = 0
        while answered < REQUESTS:
            answered += len(closed_loop(urls, CLIENTS, 5, body).latency)
        name = "resident memory of serve, demo store, after 500 requests at 16 clients"
        figures.add(resident_mb(server), name, "MB", 500)


def heads(figures: Figures, classes: int) -> None:
    """What `resnet-heads benchmark` says of a GAP and a Flatten head that compute the same."""
    told = report(stores.pair(FOLDER, classes), 60 if classes < MANY else 100)
    for ratio in told["ratios"]:
        if ratio["to_head"] == "gap":
            name = f"{ratio['head']} / gap, {classes} classes, batch {ratio['batch_size']}, latency"
            limit = INT8_WEIGHTS.get(ratio["batch_size"]) if ratio["head"] == "flatten-w8" else None
            for value in (ratio["low"], ratio["ratio"], ratio["high"]):
                figures.add(value, name, at_most=limit)
    memory = {head["head"]: head["memory"] for head in told["heads"]}
    name = f"flatten - gap, {classes} classes, resident memory"
    figures.add(memory["flatten"]["resident_mb"] - memory["gap"]["resident_mb"], name, "MB")
    if classes == MANY:
        weights_mb = stores.pair(FOLDER, classes).card("flatten", 1).structure.weight_bytes / 1e6
        name = f"flatten, {classes} classes, marginal memory / its weights"
        figures.add(memory["flatten"]["marginal_mb"] / weights_mb, name, at_most=1.1)
        name = f"flatten with int8 weights, {classes} classes, marginal memory"
        figures.add(memory["flatten-w8"]["marginal_mb"], name, "MB", 240)


if __name__ == "__main__":
    main()
