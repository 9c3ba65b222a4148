"""What Prometheus is told. One registry per application, so that tests can hold several."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from service.serving.heads import Heads

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Counts and times requests; reads the rest when asked."""

    def __init__(self, heads: Heads, pending_images: Callable[[], int]) -> None:
        self.answered = 0
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "resnet_heads_requests", "Requests answered", ["route", "status"], registry=self._registry
        )
        self._latency = Histogram(
            "resnet_heads_request_seconds",
            "Time to answer",
            ["route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._stages = Histogram(
            "resnet_heads_stage_seconds",
            "Time in each stage of a classification",
            ["stage"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._registry.register(_Loaded(heads, pending_images))

    def observe_request(self, route: str, status: int, seconds: float) -> None:
        """One request answered; `route` is the template, so that labels stay few."""
        self.answered += 1
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def observe_stages(self, stages_ms: dict[str, float]) -> None:
        """The timings of one classification."""
        for stage, ms in stages_ms.items():
            self._stages.labels(stage).observe(ms / 1e3)

    def exposition(self) -> tuple[bytes, str]:
        """The text to serve, and its media type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _Loaded(Collector):
    """State that somebody else keeps, read at each scrape."""

    def __init__(self, heads: Heads, pending_images: Callable[[], int]) -> None:
        self._heads = heads
        self._pending_images = pending_images

    def collect(self) -> Iterable[GaugeMetricFamily]:
        pending = GaugeMetricFamily(
            "resnet_heads_pending_images", "Images accepted and not yet answered"
        )
        pending.add_metric([], self._pending_images())
        serving = GaugeMetricFamily(
            "resnet_heads_serving", "The version that serves", labels=["head", "version"]
        )
        failed = GaugeMetricFamily(
            "resnet_heads_failed_versions", "Versions that stay out", labels=["head"]
        )
        for name, status in self._heads.statuses.items():
            if status.serving:
                serving.add_metric([name, str(status.serving.card.version)], 1)
            failed.add_metric([name], len(status.failures))
        return (pending, serving, failed)
