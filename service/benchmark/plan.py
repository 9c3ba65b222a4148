"""The plan of a run, and the versions in the store that it selects."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.errors import CommandError, HeadUnavailable, UnknownHead, VersionError
from service.serving.engines import EngineName
from service.store.card import Card, HeadName
from service.store.layout import Store


def _number(value: object) -> object:
    """Accepts only JSON numbers: pydantic would also convert `true` and `"1"`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("it is not a number")
    return value


NUMBER = BeforeValidator(_number)
BatchSize = Annotated[int, Field(ge=1, le=64), NUMBER]


class Plan(BaseModel):
    """What a benchmark measures. All fields are optional."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    heads: list[HeadName] | None = Field(
        None, min_length=1, description="The heads to measure; all by default."
    )
    engines: list[EngineName] | None = Field(
        None, min_length=1, description="The engines to measure on; the one that serves by default."
    )
    batch_sizes: list[BatchSize] = Field(
        [1, 8], min_length=1, max_length=8, description="The numbers of images in one call."
    )
    seconds: Annotated[float, NUMBER] = Field(
        20, ge=1, le=120, description="The time for the whole run, in seconds."
    )


@dataclass(frozen=True)
class Subject:
    """One version of one head on one engine."""

    card: Card
    engine: EngineName

    def __str__(self) -> str:
        return f"{self.card.head} on {self.engine}"

    @classmethod
    def every(cls, cards: Sequence[Card], engines: Sequence[EngineName]) -> list[Self]:
        """Each card on each engine once. The lightest head comes first, so that ratios divide by it."""
        lightest_first = sorted(cards, key=lambda card: card.structure.weight_bytes)
        return [cls(card, engine) for engine in dict.fromkeys(engines) for card in lightest_first]

    def is_runnable(self) -> bool:
        """Whether the engine can run this head: only OpenVINO runs int8 and bf16."""
        return self.card.precision == "f32" or self.engine == "openvino"

    def differs_in_one(self, other: "Subject") -> bool:
        """Whether a ratio of the two is meaningful: head or engine differs, but not both."""
        return (self.card.head == other.card.head) != (self.engine == other.engine)


def cards_in(store: Store, heads: Sequence[str] | None) -> list[Card]:
    """The newest readable card of each of `heads`, or of all heads for None.

    Raises CommandError for an empty store, UnknownHead, or HeadUnavailable.
    """
    known = store.heads()
    if not known:
        raise CommandError(f"The store {store.root} is empty; fill it with: resnet-heads init")
    for head in heads or ():
        if head not in known:
            raise UnknownHead(head, known)
    return [_newest_card(store, head) for head in heads or known]


def _newest_card(store: Store, head: str) -> Card:
    reason = ""
    for version in store.versions(head):
        try:
            return store.card(head, version)
        except VersionError as exc:
            reason = reason or f"version {version}: {exc}"
    raise HeadUnavailable(head, reason)
