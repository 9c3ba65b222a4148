"""`resnet-heads heads`: lists the versions in a store by their cards alone."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict, TypeAdapter

from service.console import columns, say, show_table, wide_console
from service.errors import VersionError
from service.store.card import Card, HeadWeights, Origin, Poolings, Precision
from service.store.layout import Store

UNKNOWN = "-"


class Listed(BaseModel):
    """A version, as its card describes it; or why its card cannot be read. Times are UTC."""

    model_config = ConfigDict(frozen=True)

    head: str
    version: int
    classes: int | None = None
    height: int | None = None
    width: int | None = None
    pooling: Poolings | None = None
    precision: Precision | None = None
    head_weights: HeadWeights | None = None
    origin: Origin | None = None
    created: datetime | None = None
    failed: str | None = None

    @classmethod
    def of(cls, card: Card) -> "Listed":
        """What the card says."""
        return cls(
            head=card.head,
            version=card.version,
            classes=len(card.labels),
            height=card.input.height,
            width=card.input.width,
            pooling=card.structure.pooling,
            precision=card.precision,
            head_weights=card.head_weights,
            origin=card.origin,
            created=card.created,
        )


def show_heads(store: Store, *, as_json: bool) -> None:
    """Prints every version of every head, newest first; says how to fill a store that has none."""
    found = list(_listed(store))
    console = wide_console()
    if as_json:
        console.out(TypeAdapter(list[Listed]).dump_json(found, indent=1).decode())
    else:
        _show(found)
    if not found:
        say(f"The store {store.root} is empty; fill it with: resnet-heads init")


def _listed(store: Store) -> Iterator[Listed]:
    for head in store.heads():
        for version in store.versions(head):
            try:
                yield Listed.of(store.card(head, version))
            except VersionError as exc:
                yield Listed(head=head, version=version, failed=str(exc))


def _show(found: Sequence[Listed]) -> None:
    console = wide_console()
    others = ("classes", "input", "pooling", "precision", "origin", "created (UTC)")
    table = columns("head", "version", *others, left=others[2:])
    for one in found:
        cells = (
            str(one.classes),
            f"{one.height}x{one.width}",
            one.pooling,
            one.precision if one.head_weights == "f32" else f"{one.precision}, int8 head",
            one.origin,
            f"{one.created:%Y-%m-%d %H:%M}" if one.created else None,
        )
        known = (UNKNOWN if one.failed else cell for cell in cells)
        table.add_row(one.head, str(one.version), *known)
    show_table(console, table)
    for one in found:
        if one.failed:
            console.print(f"{one.head} version {one.version}: {one.failed}", soft_wrap=True)
