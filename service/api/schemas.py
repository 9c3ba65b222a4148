"""What goes over the wire, and how it is made from what the serving layer returns."""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from service.serving.batcher import Deadline
from service.serving.classifier import Classified, rank
from service.serving.heads import HeadStatus, LoadedHead
from service.store.card import Backbone, Input, Origin, Output, Quantization, Structure, Training

DEFAULT_TOP_K = 5


class Prediction(BaseModel):
    """One ranked class."""

    index: int
    label: str
    probability: float


class Timing(BaseModel):
    """Milliseconds: of the image that was ready last, and of the whole request in `total`."""

    decode: float
    queue: float = Field(description="all waiting: for a decoder and for the engine")
    inference: float
    total: float = Field(description="from the moment the body was read")

    @classmethod
    def of(cls, classified: Classified, deadline: Deadline) -> "Timing":
        stages = classified.stages
        total_ms = 1e3 * (deadline.timeout_s - deadline.left_s())
        return cls(
            decode=stages.decode_ms, queue=stages.queue_ms, inference=stages.inference_ms, total=total_ms
        )

    def header(self) -> str:
        """As a Server-Timing header."""
        return ", ".join(f"{stage};dur={ms:.3f}" for stage, ms in self.model_dump().items())


class Result(BaseModel):
    """What one image got."""

    predictions: list[Prediction]


class Predicted(BaseModel):
    """The answer of /predict: one result per image, in order."""

    head: str
    version: int
    engine: str
    results: list[Result]
    timing_ms: Timing


class ComparedHead(BaseModel):
    """One of the heads that answered."""

    head: str
    version: int
    engine: str


class Comparison(BaseModel):
    """What one image got from each head; `agree` when all put the same label first."""

    predictions: dict[str, list[Prediction]]
    agree: bool


class Compared(BaseModel):
    """The answer of /compare; `agreement` is the share of images on which all heads agree."""

    heads: list[ComparedHead]
    results: list[Comparison]
    agreement: float
    timing_ms: Timing


class FailedVersion(BaseModel):
    """A version that stays out, and why."""

    version: int
    reason: str


class HeadCard(BaseModel):
    """What the serving version of a head is."""

    version: int
    engine: str
    origin: Origin
    labels: list[str]
    input: Input
    output: Output
    backbone: Backbone
    structure: Structure
    parameters: int = Field(description="backbone and head together")
    training: Training | None
    quantization: Quantization | None
    notes: list[str]
    shares_with: list[str] = Field(description="heads on the same backbone in memory")


class Head(BaseModel):
    """One head of the store; `serving` is null when no version of it could be loaded."""

    head: str
    serving: HeadCard | None
    versions: list[int] = Field(description="in the store, newest first")
    failed: list[FailedVersion]


class HeadList(BaseModel):
    """Every head of the store."""

    heads: list[Head]


class Health(BaseModel):
    """The process answers."""

    status: str = "ok"


class Readiness(BaseModel):
    """Requests will be answered by these heads."""

    status: str = "ready"
    heads: list[str]


def predicted(
    classified: Classified, head: LoadedHead, engine: str, top_k: int | None, timing: Timing
) -> Predicted:
    """The answer of /predict from what the classifier returned."""
    results = [
        Result(predictions=_ranked(of_image[head.card.head], head, top_k))
        for of_image in classified.images
    ]
    return Predicted(
        head=head.card.head, version=head.card.version, engine=engine, results=results, timing_ms=timing
    )


def compared(classified: Classified, engine: str, top_k: int | None, timing: Timing) -> Compared:
    """The answer of /compare from what the classifier returned."""
    results = []
    for of_image in classified.images:
        ranked = {
            head.card.head: _ranked(of_image[head.card.head], head, top_k) for head in classified.heads
        }
        results.append(
            Comparison(
                predictions=ranked, agree=len({first.label for first, *_ in ranked.values()}) == 1
            )
        )
    return Compared(
        heads=[
            ComparedHead(head=head.card.head, version=head.card.version, engine=engine)
            for head in classified.heads
        ],
        results=results,
        agreement=sum(result.agree for result in results) / len(results),
        timing_ms=timing,
    )


def head_info(name: str, status: HeadStatus, serving: dict[str, LoadedHead], engine: str) -> Head:
    """A head of the store, among those that serve."""
    return Head(
        head=name,
        serving=_head_card(status.serving, serving, engine) if status.serving else None,
        versions=status.versions,
        failed=[FailedVersion(version=number, reason=why) for number, why in status.failures.items()],
    )


def _head_card(head: LoadedHead, serving: dict[str, LoadedHead], engine: str) -> HeadCard:
    card = head.card
    sharing = [
        name for name, other in serving.items() if other.backbone is head.backbone and other is not head
    ]
    same = ("version", "origin", "input", "output", "training", "quantization")
    return HeadCard(
        **{name: getattr(card, name) for name in same},
        engine=engine,
        labels=list(card.labels),
        backbone=card.backbone,
        structure=card.structure,
        parameters=card.backbone.parameters + card.structure.parameters,
        notes=list(card.notes),
        shares_with=sharing,
    )


def _ranked(probabilities: NDArray[np.float32], head: LoadedHead, top_k: int | None) -> list[Prediction]:
    best = rank(probabilities, head.card.labels, top_k or DEFAULT_TOP_K)
    return [Prediction(index=p.index, label=p.label, probability=p.probability) for p in best]
