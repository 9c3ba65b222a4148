"""The schemas of the heads in the store, and of the service's health and readiness."""

from pydantic import BaseModel, Field

from service.api.redact import fit_to_tell
from service.serving.heads import HeadStatus
from service.serving.loading import LoadedHead
from service.store.card import (
    Backbone,
    HeadWeights,
    Input,
    Origin,
    Output,
    Precision,
    Quantization,
    Source,
    Structure,
    Training,
)

SAME = (
    *("version", "origin", "source", "precision", "head_weights", "input", "output", "backbone"),
    *("structure", "training", "quantization"),
)


class FailedVersion(BaseModel):
    """A version that could not be loaded, and why."""

    version: int
    reason: str


class HeadCard(BaseModel):
    """The version of a head that serves."""

    version: int
    engine: str
    origin: Origin
    labels: list[str]
    source: Source
    precision: Precision
    head_weights: HeadWeights
    computes_in: Precision = Field(
        description="What the backbone computes in here: f32 for a bf16 head on a processor without it."
    )
    input: Input
    output: Output
    backbone: Backbone
    structure: Structure
    parameters: int = Field(description="The number of parameters of backbone and head together.")
    training: Training | None
    quantization: Quantization | None
    notes: list[str]
    shares_with: list[str] = Field(description="The other heads that use this backbone in memory.")


class Head(BaseModel):
    """One head of the store; `serving` is null when no version of it could be loaded."""

    head: str
    serving: HeadCard | None
    versions: list[int] = Field(description="The versions in the store, the newest first.")
    loaded: list[int] = Field(description="The versions that a request may ask for, the newest first.")
    failed: list[FailedVersion]


class HeadList(BaseModel):
    """Every head of the store."""

    heads: list[Head]


class Health(BaseModel):
    """The process is alive."""

    status: str = "ok"


class Readiness(BaseModel):
    """The service is ready, and these heads answer requests."""

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
    return HeadCard(
        **{name: getattr(card, name) for name in SAME},
        engine=engine,
        computes_in=head.backbone.computes_in,
        labels=list(card.labels),
        parameters=card.backbone.parameters + card.structure.parameters,
        notes=list(card.notes),
        shares_with=sharing,
    )
