"""What is measured, a turn at a time. Each function returns plain numbers; figures.py compares them."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from load.run import latencies_s, loaded
from process import Server, serving
from waiting import wait_until

from service.serving.engines import open_engine
from service.serving.host import available_cores
from service.serving.pixels.decode import decode as decode_file
from service.store.card import Input
from service.store.layout import Store

SETTLING_S = 1.0  # clients start all at once; what comes after that is steady
MAX_PIXELS = 50_000_000


@dataclass(frozen=True)
class Answers:
    """What clients saw: when each answer came, in seconds; the rest in ms, (requests,) each.

    Stages that a server does not tell are nan.
    """

    finished_s: np.ndarray
    latency: np.ndarray
    decode: np.ndarray
    inference: np.ndarray

    def per_second(self) -> float:
        """Answers a second: the slope of their count, which batches at the edges do not bend."""
        return float(np.polyfit(np.sort(self.finished_s), np.arange(len(self.finished_s)), 1)[0])

    def p(self, percent: float) -> float:
        """A percentile of the latency."""
        return float(np.percentile(self.latency, percent))

    def outside(self) -> float:
        """The median of what is neither decoding nor inference."""
        return float(np.median(self.latency - self.decode - self.inference))


def closed_loop(urls: Sequence[str], clients: int, seconds: float, body: Path, **headers) -> Answers:
    """Of so many clients, after their first second. Fails unless every answer is a 200."""
    end_s = SETTLING_S + seconds
    load = loaded(urls, body, headers=headers, clients=clients, seconds=end_s)
    assert load.statuses().keys() == {200}, load.statuses()
    sent = load.answered(SETTLING_S, end_s)
    rows = [
        (one.finished, *(one.stages_ms.get(stage, np.nan) for stage in ("decode", "inference")))
        for one in sent
    ]
    finished_s, decode, inference = np.array(rows).T
    return Answers(finished_s, 1e3 * latencies_s(sent), decode, inference)


class InProcess:
    """One head on the engine, and decoding, in this process."""

    def __init__(self, store: Store, head: str) -> None:
        card = store.read_card(head, 1)
        engine = open_engine("openvino", available_cores())
        self._spec: Input = card.input
        self.backbone = engine.open(store.backbone_of(card, engine.name))
        self._head = engine.open_head(store.head_of(card, engine.name))
        self.latencies_ms(8, 0.1)
        self.latencies_ms(1, 0.1)

    def latencies_ms(self, batch_size: int, seconds: float) -> np.ndarray:
        """Of calls at that batch size, until the time is over."""
        shape = (batch_size, self._spec.height, self._spec.width, 3)
        batch = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        return _repeat(lambda: self._head(self.backbone(batch)), seconds)

    def decode_ms(self, file: bytes, decode: str, seconds: float) -> float:
        """The median time to decode."""
        spec = self._spec.model_copy(update={"decode": decode})
        return float(np.median(_repeat(lambda: decode_file(file, spec, MAX_PIXELS), seconds)))


def _repeat(call, seconds: float) -> np.ndarray:
    taken, end = [], time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        call()
        taken.append(1e3 * (time.perf_counter() - started))
    return np.array(taken)


def seconds_to_ready(store: Store) -> float:
    """From the start of `resnet-heads serve` until /readyz says so."""
    with httpx.Client() as client:
        started = time.perf_counter()
        with serving(store) as server:
            wait_until(lambda: client.get(f"{server.url}/readyz").is_success)
            return time.perf_counter() - started


def pss_mb(server: Server) -> float:
    """A server's proportional share of memory, in millions of bytes."""
    lines = Path(f"/proc/{server.process.pid}/smaps_rollup").read_text().splitlines()
    return next(1024 * int(line.split()[1]) / 1e6 for line in lines if line.startswith("Pss:"))


def report(store: Store, seconds: float) -> dict:
    """What `resnet-heads benchmark --json` says of a store."""
    command = [sys.executable, "-m", "service", "benchmark", "--json", "--store-dir", store.root]
    command += ["--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, timeout=seconds + 60, check=True)
    return json.loads(done.stdout)
