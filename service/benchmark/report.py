"""The report of a benchmark, as it is returned, stored and sent. One MB is a million bytes."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from service.serving.engines import EngineName
from service.store.card import HeadWeights, Precision


class ReportPart(BaseModel):
    """A part of a report. Unknown fields are refused: half a report of another release would mislead."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Latency(ReportPart):
    """The latency of backbone and head on pixels in memory, without decoding and HTTP."""

    batch_size: int
    n: int = Field(description="The number of measured calls.")
    first_call_ms: float = Field(
        description="The first call of this batch size, which the other figures leave out."
    )
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    stdev_ms: float
    images_per_s: float = Field(description="The batch size divided by the mean latency.")


class Growth(ReportPart):
    """How much a process grew that loaded one head; `reason` says why a figure is null."""

    resident_mb: float | None = Field(
        default=None,
        description="The growth from before loading to after warm-up, with the engine's own code.",
    )
    anonymous_mb: float | None = Field(
        default=None, description="The part of `resident_mb` that belongs to no file."
    )
    file_backed_mb: float | None = Field(
        default=None,
        description="The part of `resident_mb` that belongs to files, which the kernel can drop.",
    )
    peak_mb: float | None = Field(
        default=None, description="The largest growth at any time since before loading."
    )
    marginal_mb: float | None = Field(
        default=None,
        description="The growth by the head alone, once its backbone is loaded and warm. In another "
        "precision that is a second backbone, whose memory is not in this figure.",
    )
    reason: str | None = Field(default=None, description="Why a figure is null.")


class Memory(Growth):
    """The memory that one head takes in a process of its own."""

    weights_mb: float = Field(description="The exact size of the weights of backbone and head.")
    file_mb: float = Field(description="The size of the compiled files that the engine opens.")


class MeasuredHead(ReportPart):
    """The figures of one version of one head on one engine."""

    head: str
    version: int
    engine: EngineName
    precision: Precision | None = Field(default=None, description="That of the head's card.")
    head_weights: HeadWeights | None = Field(default=None, description="Those of the head's card.")
    computes_in: Precision | None = Field(
        default=None,
        description="What the backbone computed in: f32 for a bf16 head on a processor without it.",
    )
    classes: int
    parameters: int = Field(description="The number of parameters of backbone and head together.")
    load_ms: float = Field(description="The time to check and open the compiled files.")
    latency: tuple[Latency, ...]
    memory: Memory


class Ratio(ReportPart):
    """The median latency of one head divided by that of another, with its 95 % bootstrap interval.

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
    """The machine and the software of a run."""

    host: str
    cpu: str
    cores: int = Field(description="The number of cores that this process may run on.")
    cpu_quota: float | None = Field(description="The CPU quota of the container, in cores.")
    versions: dict[str, str] = Field(
        description="The versions of Python, of this service and of its libraries."
    )


class Progress(ReportPart):
    """What a run is doing now."""

    step: int = Field(description="The number of this step, counted from 1.")
    doing: str = Field(examples=["gap on openvino: memory"])
    elapsed_s: float
    of_seconds: float = Field(description="The time given to the run, which it uses up.")
    share: float = Field(description="The share of the time given that has passed, at most 1.")


class Report(ReportPart):
    """The report of one run. Each head had a process and a backbone of its own."""

    started: datetime
    seconds: float
    machine: Machine
    measured_here: bool = Field(
        default=True,
        description="False if the CPU, the libraries or the serving versions have changed since.",
    )
    threads: int
    rounds: int = Field(description="How often the heads took turns.")
    requests_meanwhile: int | None = Field(
        description="How many requests the server answered during the run; null without a server."
    )
    heads: tuple[MeasuredHead, ...]
    ratios: tuple[Ratio, ...] = Field(
        description="The ratios of heavier to lighter heads on one engine, and of engines on one head."
    )
