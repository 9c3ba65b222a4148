"""What the parent and a child say to each other: a task, then orders, each with its answer."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.benchmark.report import Growth
from service.serving.engines import EngineName


class Message(BaseModel):
    """One JSON line."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(Message):
    """One version of one head, on one engine."""

    store_dir: str
    cache_dir: str
    engine: EngineName
    threads: int
    head: str
    version: int
    batch_sizes: tuple[int, ...]


class Order(Message):
    """Load and warm up, weigh that instead, or take a turn: call for `seconds`, and once at least."""

    do: Literal["load", "weigh", "turn"]
    batch_size: int = 0
    seconds: float = 0

    def __str__(self) -> str:
        """What the child is doing meanwhile."""
        measuring = f"latency, batch size {self.batch_size}"
        return {"load": "loading", "weigh": "memory", "turn": measuring}[self.do]


class Loaded(Message):
    """The answer to `load`; first calls in the order of the batch sizes."""

    load_ms: float
    first_call_ms: tuple[float, ...]


class Turn(Message):
    """The answer to `turn`."""

    latencies_ms: Annotated[tuple[float, ...], Field(min_length=1)]


Answer = Loaded | Growth | Turn
