"""The messages between parent and child: a task, then orders, each with its answer."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.benchmark.report import Growth
from service.serving.engines import EngineName
from service.store.card import Precision


class Message(BaseModel):
    """A message, which is one JSON line."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(Message):
    """What the child measures: one version of one head on one engine."""

    store_dir: str
    cache_dir: str
    engine: EngineName
    threads: int
    head: str
    version: int
    batch_sizes: tuple[int, ...]


class Order(Message):
    """An order to load and warm up, to weigh (measure memory), or to call once or for `seconds`."""

    do: Literal["load", "weigh", "turn"]
    batch_size: int = 0
    seconds: float = 0

    def __str__(self) -> str:
        """Describes what the child is doing, for progress reports."""
        measuring = f"latency, batch size {self.batch_size}"
        return {"load": "loading", "weigh": "memory", "turn": measuring}[self.do]


class Loaded(Message):
    """The answer to `load`; first calls are in the order of the batch sizes."""

    load_ms: float
    first_call_ms: tuple[float, ...]
    computes_in: Precision


class Turn(Message):
    """The answer to `turn`."""

    latencies_ms: Annotated[tuple[float, ...], Field(min_length=1)]


Answer = Loaded | Growth | Turn
