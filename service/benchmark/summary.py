"""Latency statistics: percentiles, and ratios of medians with confidence intervals."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.benchmark.report import Latency

RESAMPLES = 1000
MIN_ROUNDS = 5  # Fewer rounds say too little about how much they differ.
SEED = 0

Rounds = Sequence[Sequence[float]]


def summarise(batch_size: int, first_call_ms: float, latencies_ms: Sequence[float]) -> Latency:
    """Summarises latencies. Percentiles are type 7 of Hyndman and Fan 1996; stdev divides by n - 1."""
    p50, p90, p95, p99 = np.percentile(latencies_ms, [50, 90, 95, 99])
    mean = float(np.mean(latencies_ms))
    return Latency(
        batch_size=batch_size,
        n=len(latencies_ms),
        first_call_ms=first_call_ms,
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        mean_ms=mean,
        stdev_ms=float(np.std(latencies_ms, ddof=1)) if len(latencies_ms) > 1 else 0.0,
        images_per_s=1e3 * batch_size / mean,
    )


def median_ratio(ones: Rounds, others: Rounds) -> tuple[float, float | None, float | None]:
    """The ratio of the medians, and its 95 % percentile-bootstrap interval, if there is one.

    Both arguments hold the latencies of each round. The bootstrap resamples whole rounds, the same for
    both: calls within a round are correlated, and drift of the machine that affects both cancels.
    """
    mine, theirs = [np.asarray(r) for r in ones], [np.asarray(r) for r in others]
    if len(mine) < MIN_ROUNDS:
        return _ratio(mine, theirs), None, None
    draws = np.random.default_rng(SEED).integers(len(mine), size=(RESAMPLES, len(mine)))
    ratios = [_ratio([mine[i] for i in draw], [theirs[i] for i in draw]) for draw in draws]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return _ratio(mine, theirs), float(low), float(high)


def _ratio(ones: Sequence[NDArray[np.float64]], others: Sequence[NDArray[np.float64]]) -> float:
    return float(np.median(np.concatenate(ones)) / np.median(np.concatenate(others)))
