"""Several servers, a flood, and a new version: what `make test-fleet` tests, in figures. Needs nginx."""

import json
import shutil
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
from bench import stores
from bench.figures import Figures
from bench.measure import closed_loop
from fleet.overload import LARGE, TIMES, mixed, overload, returning, share
from fleet.replicas import proxied, replicas
from load.run import Load, latencies_s, load
from waiting import wait_until

from service.console import track
from service.store.layout import MODEL, Store
from service.store.publish import publish_version, staged

FLOOD_S = 60
FLOODS = 3
CLIENTS = 16
SWAP_CLIENTS = 8
BEFORE_S = 10.0
FLAGS = ("--listen-when-ready", "true")


def measure(figures: Figures, folder: Path, rounds: int, body: Path) -> None:
    """All of them, on the demo store."""
    demo, other = stores.demo(folder), stores.thousand(folder)
    two_against_one(figures, demo, rounds, body)
    for _ in track(range(min(rounds, FLOODS)), min(rounds, FLOODS), "Flooding"):
        with replicas(demo, 1, cores=True) as (server,):
            flooded(figures, server, body)
    for _ in track(range(rounds), rounds, "Swapping"):
        swapped(figures, demo, other, body)


def two_against_one(figures: Figures, store: Store, rounds: int, body: Path) -> None:
    """Two replicas through nginx, and one of them asked directly; each on one core."""
    with tempfile.TemporaryDirectory() as scratch, replicas(store, 2, *FLAGS, cores=True) as servers:
        Path(scratch).chmod(0o755)
        with proxied("nginx", [one.port for one in servers], Path(scratch), {}) as url:
            for _ in track(range(rounds), rounds, "Balancing"):
                rates = [
                    closed_loop([f"{base}/predict"], CLIENTS, 8, body).per_second()
                    for base in (url, servers[0].url)
                ]
                figures.add(
                    rates[0] / rates[1], "two replicas through nginx / one, a core each", at_least=1.8
                )


def flooded(figures: Figures, server, body: Path) -> None:
    """More than it can do: refused for good, coming back, and of many images."""
    found = overload(server, body, FLOOD_S)
    what = f"{TIMES} x the peak rate for {FLOOD_S} s"
    figures.add(found.goodput_per_s / found.peak_per_s, f"{what}: goodput / peak", at_least=0.9)
    figures.add(found.accepted_p99_s, f"{what}: p99 of accepted requests", "s", 10)
    figures.add(found.longest_retry_s, f"{what}: largest Retry-After", "s", 30)
    figures.add(1e3 * found.alive_p99_s, f"{what}: p99 of /healthz", "ms", 100)
    figures.add(found.grown_mb, f"{what}: growth of resident memory", "MB", 100)
    name = f"latency 2 s after {what} / before"
    figures.add(found.after_s / found.before_s, name, at_most=1.5)
    for times in (2, TIMES):
        flood = returning(server, body, times * found.peak_per_s, FLOOD_S, obey_s=FLOOD_S)
        what = f"of those refused at {times} x the peak rate for {FLOOD_S} s who come back as told"
        figures.add(flood.served(), f"{what}: served until {FLOOD_S} s after it")
    for times in (2, TIMES):
        single, large = mixed(server, body, times * found.peak_per_s, FLOOD_S)
        what = f"share served of requests of {LARGE} images / of single ones, at {times} x the peak rate"
        figures.add(share(large) / share(single), what)


def swapped(figures: Figures, demo: Store, other: Store, body: Path) -> None:
    """A version with another backbone is published under load, and takes over."""
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch) / "store", Path(scratch) / "cache")
        shutil.copytree(demo.root, store.root)
        shutil.copytree(other.root / ".compiled", store.root / ".compiled", dirs_exist_ok=True)
        with (
            replicas(store, 1, "--reload-poll-s", "0.2") as (server,),
            load([f"{server.url}/predict?head=gap"], body, clients=SWAP_CLIENTS) as under_way,
        ):
            time.sleep(BEFORE_S)
            card = other.read_card("gap", 1)
            with staged(store.root) as folder:
                shutil.copy(other.folder("gap", 1) / MODEL, folder / MODEL)
                published = time.monotonic()
                publish_version(store, folder, card)
            with httpx.Client(base_url=server.url) as client:  # asked seldom: it is on the same cores
                wait_until(lambda: serves(client) == 2, every_s=0.25)
            done = time.monotonic()
            time.sleep(1)
    assert under_way.failed() == []
    assert are_whole(under_way), "an answer of two versions"
    before = latencies_s(under_way.of(200, published - BEFORE_S + 2, published - 1))
    during = latencies_s(under_way.of(200, published - before.max(), done))
    ratio = np.percentile(during, 99) / np.percentile(before, 99)
    figures.add(ratio, "p99 while a version with another backbone takes over / before", at_most=2)
    figures.add(len(under_way.of(429)), "requests refused meanwhile", at_most=0)


def serves(client: httpx.Client) -> int:
    return client.get("/heads/gap").json()["serving"]["version"]


def are_whole(answers: Load) -> bool:
    """Whether each answer's label is of the version that it names."""
    told = [one.answer.partition('"timing_ms"')[0].rstrip(",") + "}" for one in answers.of(200)]
    parsed = [json.loads(text) for text in told]
    return all(
        (one["version"] == 2) == one["results"][0]["predictions"][0]["label"].startswith("class ")
        for one in parsed
    )
