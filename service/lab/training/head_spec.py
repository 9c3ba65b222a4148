"""Parses descriptions of heads: `gap`, `average:2`, `mid=average:2,hidden=256,128,dropout=0.3`."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from service.errors import CommandError
from service.store.card import HEAD_NAME, Pooling

if TYPE_CHECKING:
    import keras

WINDOWED = ("average", "max")
GRAMMAR = "[NAME=]POOLING[,hidden=UNITS[,UNITS...]][,dropout=RATE]"
ROAD = tuple(f"average:{size}" for size in range(1, 8))


@dataclass(frozen=True)
class HeadSpec:
    """A head to train. `filter` and `stride` are None for a pooling without a window."""

    name: str
    pooling: Pooling
    filter: int | None = None
    stride: int | None = None
    hidden_units: tuple[int, ...] = ()
    dropout: float = 0.0

    def pooled(self, features: "keras.KerasTensor") -> "keras.KerasTensor":
        """The inputs of the first Dense, (batch, values). Raises CommandError."""
        import keras

        if self.filter and self.filter > min(features.shape[1:3]):
            side = "x".join(map(str, features.shape[1:3]))
            raise CommandError(
                f"Head {self.name}: a window of {self.filter} is larger than the {side} map."
            )
        if self.pooling == "gap":
            return keras.layers.GlobalAveragePooling2D(name="avg_pool")(features)
        if self.pooling == "gmp":
            return keras.layers.GlobalMaxPooling2D(name="max_pool")(features)
        if self.pooling == "average":
            features = keras.layers.AveragePooling2D(self.filter, self.stride, name="pool")(features)
        if self.pooling == "max":
            features = keras.layers.MaxPooling2D(self.filter, self.stride, name="pool")(features)
        return keras.layers.Flatten(name="flatten")(features)

    def seen(self, side: int) -> int:
        """The number of the `side` x `side` positions that the pooling covers."""
        if not (self.filter and self.stride):
            return side**2
        starts = range(0, side - self.filter + 1, self.stride)
        return len({start + step for start in starts for step in range(self.filter)}) ** 2


def parse_head(text: str) -> HeadSpec:
    """The head that `text` describes. Raises CommandError."""
    name, is_named, rest = text.partition("=") if re.match(r"[^,:]*=", text) else ("", "", text)
    pooling, *options = rest.split(",")
    word, *window = pooling.split(":")
    if word not in get_args(Pooling) or bool(window) != (word in WINDOWED) or len(window) > 2:  # noqa: PLR2004 (F and S)
        raise _refused(text, f"{pooling!r} is no pooling: gap, gmp, flatten, average:F[:S] or max:F[:S]")
    sizes = [_whole(text, value) for value in window] + [1] * (len(window) == 1)
    hidden, dropout = _options(text, options)
    spec = HeadSpec(
        name=name if is_named else _default_name(word, window, hidden),
        pooling=word,  # type: ignore[arg-type]  # one of them, as was just seen
        filter=sizes[0] if sizes else None,
        stride=sizes[1] if sizes else None,
        hidden_units=hidden,
        dropout=dropout,
    )
    if not HEAD_NAME.fullmatch(spec.name):
        raise _refused(text, f"{spec.name!r} is not a head's name: lower-case letters, digits, - and _")
    return spec


def _options(text: str, options: list[str]) -> tuple[tuple[int, ...], float]:
    """Parses `hidden=256`, `128` and `dropout=0.3`, in this order; bare numbers continue `hidden`."""
    hidden: list[int] = []
    dropout = 0.0
    for option in options:
        word, is_named, value = option.rpartition("=")
        if (word == "hidden" and not hidden) or (not is_named and hidden):
            hidden.append(_whole(text, value))
        elif word == "dropout":
            dropout = _rate(text, value)
        else:
            raise _refused(text, f"{option!r} is not understood")
    return tuple(hidden), dropout


def _whole(text: str, value: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,4}", value):
        raise _refused(text, f"{value!r} is not a whole number from 1 to 99999")
    return int(value)


def _rate(text: str, value: str) -> float:
    if not re.fullmatch(r"0?\.[0-9]+|0", value):
        raise _refused(text, f"{value!r} is not a rate from 0 to below 1")
    return float(value)


def _default_name(word: str, window: list[str], hidden: tuple[int, ...]) -> str:
    return "-".join([word, *window, *(["hidden", *map(str, hidden)] if hidden else [])])


def _refused(text: str, reason: str) -> CommandError:
    return CommandError(f"Head {text!r}: {reason}. It is written {GRAMMAR}.")
