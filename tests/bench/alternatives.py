"""Our server beside the two that a reader would write in 40 lines (plain/).

One model, GAP with 1000 classes, and one picture. All of them are asked in turns within each round, by
the same load client.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
from bench import stores
from bench.figures import Figures, markdown
from bench.measure import closed_loop, pss_mb
from process import serving

from service.console import track

CLIENTS = 16
STARTS = 7
SETTLED_S = 3
PLAIN = Path(__file__).with_name("plain")
KERAS, F32, DEFAULT = (
    "FastAPI + `model.predict`",
    "FastAPI + OpenVINO, f32",
    "FastAPI + OpenVINO, default",
)
OURS = {"gap": "ours, f32", "gap-bf16": "ours, bf16", "gap-int8": "ours, int8"}
COLUMNS = ("one client, p50 ms", "16 clients, req/s", "16 clients, p95 ms", "PSS MB", "first answer s")
# From Keras' probability. The backbone has random weights: int8 must only have the same class.
APART = {
    KERAS: 0,
    F32: 1e-4,
    DEFAULT: 0.1,
    OURS["gap"]: 1e-4,
    OURS["gap-bf16"]: 0.1,
    OURS["gap-int8"]: 1,
}


def measure(figures: Figures, folder: Path, rounds: int, body: Path) -> str:
    """Adds the ratios, and returns a table of what each server does."""
    store = stores.lowered(folder)
    commands = plain_servers(folder)
    found: dict[str, dict[str, list[float]]] = {
        name: {column: [] for column in COLUMNS} for name in (*commands, *OURS.values())
    }
    with ExitStack() as stack:
        urls = {
            name: f"{stack.enter_context(serving(None, command=command)).url}/predict"
            for name, command in commands.items()
        }
        ours = stack.enter_context(serving(store, "--log-level", "warning"))
        urls |= {name: f"{ours.url}/predict?head={head}" for head, name in OURS.items()}
        check_that_they_agree(urls, body)
        for number in track(range(rounds), rounds, "Asking all servers"):
            order = list(urls) if number % 2 else list(reversed(urls))
            for name in order:
                single = closed_loop([urls[name]], 1, 3, body)
                many = closed_loop([urls[name]], CLIENTS, 8, body)
                values = (single.p(50), many.per_second(), many.p(95))
                for column, value in zip(COLUMNS, values, strict=False):
                    found[name][column].append(value)
    for _ in track(range(STARTS), STARTS, "Starting all servers"):
        for name, command in commands.items():
            _start(found[name], body, "/predict", command=command)
        for head, name in OURS.items():
            alone = stores.only(folder, store, head)
            _start(found[name], body, f"/predict?head={head}", store=alone)
    _compare(figures, found)
    rows = [["server", *COLUMNS], ["---", *["--:"] * len(COLUMNS)]]
    rows += [[name, *map(_shown, COLUMNS, columns.values())] for name, columns in found.items()]
    return markdown(rows)


def plain_servers(folder: Path) -> Mapping[str, Sequence[str | Path]]:
    """The plain servers."""
    model = stores.plain(folder)
    labels = model.with_name("labels.txt")
    graph = [sys.executable, PLAIN / "openvino_server.py", model.with_suffix(".xml"), labels]
    return {
        KERAS: [sys.executable, PLAIN / "keras_server.py", model, labels],
        F32: [*graph, "f32"],
        DEFAULT: graph,
    }


def check_that_they_agree(urls: Mapping[str, str], body: Path) -> None:
    """The same likeliest class, and nearly the same probability."""
    best = {}
    for name, url in urls.items():
        told = httpx.post(url, content=body.read_bytes(), timeout=60).raise_for_status().json()
        best[name] = (told.get("predictions") or told["results"][0]["predictions"])[0]
    for name, one in best.items():
        assert one["label"] == best[KERAS]["label"], best
        apart = abs(one["probability"] - best[KERAS]["probability"])
        assert apart <= APART[name], best


def _start(found: dict[str, list[float]], body: Path, route: str, store=None, command=None) -> None:
    """From the start of a process to its first answer; then its memory, a while later."""
    content, started = body.read_bytes(), time.perf_counter()
    flags = ("--log-level", "warning") if store else ()
    with serving(store, *flags, command=command) as server, httpx.Client() as client:
        client.post(f"{server.url}{route}", content=content, timeout=60).raise_for_status()
        found["first answer s"].append(time.perf_counter() - started)
        time.sleep(SETTLED_S)
        found["PSS MB"].append(pss_mb(server))


def _compare(figures: Figures, found: dict[str, dict[str, list[float]]]) -> None:
    """The ratios that have targets, a value a round."""

    def ratio(name: str, column: str, over: str, below: str, **limit: float) -> None:
        for one, other in zip(found[over][column], found[below][column], strict=True):
            figures.add(one / other, name, **limit)

    f32, bf16, int8 = OURS.values()
    rate, single = "16 clients, req/s", "one client, p50 ms"
    ratio("f32, 16 clients / FastAPI + OpenVINO at f32", rate, f32, F32, at_least=1.08)
    ratio("f32, one client, p50 / the same server's", single, f32, F32, at_most=1.0)
    ratio("bf16, 16 clients / FastAPI + OpenVINO at f32", rate, bf16, F32, at_least=1.9)
    ratio(
        "bf16, 16 clients / the same server at its default precision", rate, bf16, DEFAULT, at_least=1.08
    )
    ratio("int8, 16 clients / FastAPI + OpenVINO at f32", rate, int8, F32, at_least=3.0)
    for value in found[f32]["first answer s"]:
        figures.add(value, "process start to first right answer, one GAP head, f32", "s", 1.2)
    for name, limit in ((f32, 400), (int8, 280)):
        for value in found[name]["PSS MB"]:
            figures.add(value, f"PSS after load, one GAP head, {name.split()[-1]}", "MB", limit)


def _shown(column: str, values: Sequence[float]) -> str:
    median = float(np.median(values))
    return f"{median:.0f}" if column.endswith("MB") or median >= 100 else f"{median:.3g}"
