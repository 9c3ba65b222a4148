"""The metrics for Prometheus, in one registry per application, so that tests can run several."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

import service
from service.api.problems import KINDS
from service.serving.capacity import Capacity
from service.serving.heads import Heads
from service.serving.loading import LoadedHead

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
IMAGES = (1, 2, 4, 8, 16, 32, 64)
# This share of the deadline must be a bucket's bound, because deploy/alerts.yaml compares with it.
LATE_SHARE = 0.8


@dataclass(frozen=True)
class State(Collector):
    """A collector of values that other objects hold; each scrape reads them."""

    heads: Heads
    capacity: Capacity
    is_ready: Callable[[], bool]
    request_timeout_s: float

    def collect(self) -> Iterable[Metric]:
        """Returns the metrics with their current values."""
        build = {"version": service.__version__, "engine": self.heads.engine_name or ""}
        yield InfoMetricFamily(
            "resnet_heads_build",
            "The version and the engine of the service; engine is empty until it is open",
            build,
        )
        of = self.capacity
        for name, text, value in (
            ("ready", "Whether /readyz answers 200", self.is_ready()),
            ("pending_images", "Images accepted and not yet answered", of.pending),
            ("max_queued_images", "The setting max_queued_images", of.max_queued_images),
            ("wait_seconds", "The predicted seconds until the pending images are answered", of.wait_s),
            ("max_wait_seconds", "The setting max_wait_s", of.max_wait_s),
            (
                "bytes_in_flight",
                "Bytes of bodies that are not decoded to pixels yet",
                of.bytes_in_flight,
            ),
            ("max_bytes_in_flight", "The setting max_bytes_in_flight", of.max_bytes_in_flight),
            ("request_timeout_seconds", "The setting request_timeout_s", self.request_timeout_s),
        ):
            yield GaugeMetricFamily(f"resnet_heads_{name}", text, float(value))
        yield from self._versions()

    def _versions(self) -> Iterable[Metric]:
        serving = GaugeMetricFamily(
            "resnet_heads_serving",
            "The version of a head that serves, and what its backbone computes in",
            labels=["head", "version", "precision"],
        )
        failed = GaugeMetricFamily(
            "resnet_heads_failed_versions",
            "Versions that could not be loaded",
            labels=["head", "reason"],
        )
        for name, status in self.heads.statuses.items():
            if status.serving:
                one = status.serving
                serving.add_metric([name, str(one.card.version), one.backbone.computes_in], 1)
            golden = len(status.golden_failures)
            failed.add_metric([name, "golden-check"], golden)
            failed.add_metric([name, "other"], len(status.failures) - golden)
        return (serving, failed)


class Metrics:
    """Counts and times requests, and exposes the state of other objects at each scrape."""

    def __init__(self, state: State) -> None:
        self.answered = 0
        self._registry = CollectorRegistry()
        self._registry.register(state)
        limit_s = state.request_timeout_s
        within = {seconds for seconds in SECONDS if seconds < limit_s} | {LATE_SHARE * limit_s, limit_s}
        self._requests = self._counter("requests", "Requests answered", "route", "status")
        self._refusals = self._counter(
            "refusals", "Problem documents, by the last part of their type", "reason"
        )
        self._images = self._counter("images", "Images that a head answered", "head", "version")
        self._latency = self._histogram("request_seconds", "Seconds until the answer", SECONDS, "route")
        self._stages = self._histogram(
            "stage_seconds", "Seconds in each stage of a classification", sorted(within), "stage"
        )
        self._batches = self._histogram("batch_images", "Images in one pass of a backbone", IMAGES)
        # Start each counter at 0: Prometheus sees no increase in one that begins with 1.
        for reason in KINDS:
            self._refusals.labels(reason)

    def observe_request(self, route: str, status: int, seconds: float, problem: str | None) -> None:
        """Counts one answered request, and the kind of its problem if it has one.

        `route` is the path's template, so that there are few label values.
        """
        self.answered += 1
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)
        if problem:
            self._refusals.labels(problem).inc()

    def observe_stages(self, stages_ms: dict[str, float]) -> None:
        """Records the stage timings of one classification."""
        for stage, ms in stages_ms.items():
            self._stages.labels(stage).observe(ms / 1e3)

    def observe_batch(self, images: int, answering: Iterable[LoadedHead]) -> None:
        """Records one pass over a batch of `images`; `answering` holds a head for each answer."""
        self._batches.observe(images)
        for head, answers in Tally(answering).items():
            self._images.labels(head.card.head, str(head.card.version)).inc(answers)

    def exposition(self) -> tuple[bytes, str]:
        """Returns the text exposition and its media type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"resnet_heads_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, bounds: Iterable[float], *labels: str) -> Histogram:
        return Histogram(
            f"resnet_heads_{name}", text, labels, buckets=tuple(bounds), registry=self._registry
        )
