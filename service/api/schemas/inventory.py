"""The schemas of the heads in the store, and of the service's health and readiness."""

from pydantic import BaseModel, Field

from service.api.redact import fit_to_tell
from service.serving.heads import HeadStatus
from service.serving.loading import LoadedHead
from service.store.card import (
    Backbone,
    Input,
    Origin,
    Output,
    Precision,
    Quantization,
    Source,
    Structure,
    Training,
)


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
    source: Source
    precision: Precision
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
    loaded: list[int] = Field(description="that a request may ask for by `version`, newest first")
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


def head_info(name: str, status: HeadStatus, serving: dict[str, LoadedHead], engine: str) -> Head:
    """Describes one head of the store; `serving` holds all heads that serve, by name."""
    return Head(
        head=name,
        serving=_head_card(status.serving, serving, engine) if status.serving else None,
        versions=status.versions,
        loaded=sorted(status.loaded, reverse=True),
        failed=[
            FailedVersion(version=number, reason=fit_to_tell(why))
            for number, why in status.failures.items()
        ],
    )


def _head_card(head: LoadedHead, serving: dict[str, LoadedHead], engine: str) -> HeadCard:
    card = head.card
    sharing = [
        name for name, other in serving.items() if other.backbone is head.backbone and other is not head
    ]
    same = ("version", "origin", "source", "precision", "input", "output", "training", "quantization")
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
