"""What a benchmark run returns, is stored as, and goes over the wire. MB are millions of bytes."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from service.serving.engines import EngineName


class ReportPart(BaseModel):
    """A part of a report; unknown fields are refused, so that another release's is not half read."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Latency(ReportPart):
    """Calls with pixels in memory, backbone and head together; decoding and HTTP are not in it."""

    batch_size: int
    n: int = Field(description="measured calls")
    first_call_ms: float = Field(description="the first call of this batch size, not in the rest")
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    stdev_ms: float
    images_per_s: float = Field(description="batch size / mean")


class Growth(ReportPart):
    """How a process grew that loaded one head; null where the system does not tell, see `reason`."""

    resident_mb: float | None = Field(
        default=None, description="from before load to after warm-up; the engine's own code is in it"
    )
    anonymous_mb: float | None = Field(default=None, description="the part of it that is no file's")
    file_backed_mb: float | None = Field(
        default=None, description="the part of it that the kernel can drop"
    )
    peak_mb: float | None = Field(default=None, description="high-water mark less the same baseline")
    marginal_mb: float | None = Field(
        default=None, description="by the head when its backbone is loaded and warm"
    )
    reason: str | None = Field(default=None, description="why a figure is null")


class Memory(Growth):
    """What one head takes in a process of its own."""

    weights_mb: float = Field(description="float32 weights of backbone and head, exact")
    file_mb: float = Field(description="the compiled files that the engine opens")


class MeasuredHead(ReportPart):
    """One version of one head on one engine."""

    head: str
    version: int
    engine: EngineName
    classes: int
    parameters: int = Field(description="backbone and head together")
    load_ms: float = Field(description="checking and opening the compiled files")
    latency: tuple[Latency, ...]
    memory: Memory


class Ratio(ReportPart):
    """Median latency of one head over that of another, with its 95 % bootstrap interval.

    The interval is null after fewer than 5 rounds.
    """

    head: str
    engine: EngineName
    to_head: str
    to_engine: EngineName
    batch_size: int
    ratio: float
    low: float | None
    high: float | None


class Machine(ReportPart):
    """Where it was measured, and with what."""

    host: str
    cpu: str
    cores: int = Field(description="that this process may run on")
    cpu_quota: float | None = Field(description="of the container, in cores")
    versions: dict[str, str] = Field(description="of Python, of this service and of its libraries")


class Progress(ReportPart):
    """What a run is doing now."""

    step: int = Field(description="counts what was begun, from 1")
    doing: str = Field(examples=["gap on openvino: memory"])
    elapsed_s: float
    of_seconds: float = Field(description="the time given, which a run uses up")
    share: float = Field(description="of the time given that has passed, at most 1")


class Report(ReportPart):
    """One run. Each head was measured in a process of its own, and with a backbone of its own."""

    started: datetime
    seconds: float
    machine: Machine
    measured_here: bool = Field(
        default=True, description="false when CPU, libraries or the serving versions are others by now"
    )
    threads: int
    rounds: int = Field(description="how often the heads took turns")
    requests_meanwhile: int | None = Field(
        description="that the server answered during the run; null for the command line"
    )
    heads: tuple[MeasuredHead, ...]
    ratios: tuple[Ratio, ...] = Field(
        description="of the heavier head over the lighter on one engine, and of engines with one head"
    )
