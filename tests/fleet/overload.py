"""More than a server can do, for a while, and what comes of it. One core serves, the other asks."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from fleet.replicas import Replica
from load.run import Load, latencies_s, load, loaded
from process import resident_mb

CLIENTS = 16
TIMES = 10
LARGE = 32
SETTLING_S = 3.0
PEAK_S = 12.0
AFTER_S = 2.0
SERVER_CORE, CLIENT_CORE = 0, 1


@dataclass(frozen=True)
class Overload:
    """`flood` has every request of it; `answered` and `refused` are those counted by the server."""

    flood: Load
    peak_per_s: float
    goodput_per_s: float
    accepted_p99_s: float
    longest_retry_s: int
    alive_p99_s: float
    before_s: float
    after_s: float
    grown_mb: float
    counted: tuple[int, int]


def overload(replica: Replica, body: Path, seconds: float) -> Overload:
    """Peak, the flood, whose refused requests do not come back, and calm."""
    url = f"{replica.url}/predict"
    peak_per_s = peak(url, body)
    before_s = alone_s(url, body)
    grown_mb, counted = -resident_mb(replica.server), counts(replica)
    flooding = {"rate": TIMES * peak_per_s, "seconds": seconds}
    with alive(replica.url) as checks_s, load([url], body, CLIENT_CORE, **flooding) as flood:
        time.sleep(seconds + AFTER_S)
        after_s = alone_s(url, body)
        flood.wait()
    grown_mb += resident_mb(replica.server)
    return Overload(
        flood=flood,
        peak_per_s=peak_per_s,
        goodput_per_s=per_second(flood, SETTLING_S, seconds),
        accepted_p99_s=float(np.percentile(latencies_s(flood.of(200)), 99)),
        longest_retry_s=flood.longest_retry_s(),
        alive_p99_s=float(np.percentile(checks_s, 99)),
        before_s=before_s,
        after_s=after_s,
        grown_mb=grown_mb,
        counted=tuple(now - then for now, then in zip(counts(replica), counted, strict=True)),
    )


def peak(url: str, body: Path) -> float:
    """Answers a second to as many clients as keep it busy; refusals must not keep it from answering."""
    many = {"clients": CLIENTS, "rest": 0.1, "seconds": PEAK_S + SETTLING_S}
    most = loaded([url], body, CLIENT_CORE, **many)
    return per_second(most, SETTLING_S, PEAK_S + SETTLING_S)


def returning(replica: Replica, body: Path, rate: float, seconds: float, obey_s: float) -> Load:
    """A flood whose refused requests come back as told, until `obey_s` after its end."""
    flooding = {"rate": rate, "seconds": seconds, "obey": obey_s}
    return loaded([f"{replica.url}/predict"], body, CLIENT_CORE, **flooding)


def mixed(replica: Replica, body: Path, images_per_s: float, seconds: float) -> tuple[Load, Load]:
    """A flood, half of whose images come one by one, and half LARGE at a time."""
    url, many = f"{replica.url}/predict", body.with_suffix(".json")
    text = base64.b64encode(body.read_bytes()).decode()
    many.write_text(json.dumps({"images": [text] * LARGE}))
    one = {"rate": images_per_s / 2, "seconds": seconds}
    large = one | {"rate": images_per_s / 2 / LARGE, "headers": {"Content-Type": "application/json"}}
    with (
        load([url], body, CLIENT_CORE, **one) as single,
        load([url], many, CLIENT_CORE, **large) as whole,
    ):
        single.wait()
        whole.wait()
    return single, whole


def share(load: Load) -> float:
    """Of its requests, those that were answered."""
    return len(load.of(200)) / len(load.sent)


def per_second(load: Load, since_s: float, until_s: float) -> float:
    """Answers a second between those seconds of a load."""
    return len(load.answered(since_s, until_s)) / (until_s - since_s)


def alone_s(url: str, body: Path) -> float:
    """The median latency of a client alone."""
    one = loaded([url], body, CLIENT_CORE, clients=1, seconds=2)
    return float(np.median(latencies_s(one.of(200))))


def counts(replica: Replica) -> tuple[int, int]:
    """Answered and refused, as the server counts them."""
    return replica.counted(200), replica.counted(429)


@contextmanager
def alive(url: str) -> Iterator[list[float]]:
    """How long /healthz took, in seconds, ten times a second until the end."""
    is_over, taken_s = threading.Event(), []

    def ask() -> None:
        with httpx.Client(timeout=30) as client:
            while not is_over.wait(0.1):
                started = time.monotonic()
                client.get(f"{url}/healthz").raise_for_status()
                taken_s.append(time.monotonic() - started)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield taken_s
    finally:
        is_over.set()
        thread.join()
