"""The figures, their targets, and the table: a value a round of each, and the median of those."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Figure:
    """One row. `limit` is None where nothing was promised; otherwise `at_most` or at least that."""

    name: str
    unit: str = ""
    limit: float | None = None
    at_most: bool = True
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return float(np.median(self.values))

    def target(self) -> str:
        return "reported" if self.limit is None else f"{'≤≥'[not self.at_most]} {self._show(self.limit)}"

    def is_met(self) -> bool:
        if self.limit is None:
            return True
        return self.median <= self.limit if self.at_most else self.median >= self.limit

    def row(self) -> list[str]:
        """Name, target, median, and the middle half of the rounds."""
        quarters = " to ".join(map(self._show, np.percentile(self.values, [25, 75])))
        return [self.name, self.target(), f"**{self._show(self.median)}**", quarters]

    def _show(self, value: float) -> str:
        return f"{value:.{0 if self.unit == 'MB' else 2}f} {self.unit}".rstrip()


class Figures:
    """All rows, in the order in which they were first named."""

    def __init__(self) -> None:
        self._rows: dict[str, Figure] = {}

    def add(
        self,
        value: float,
        name: str,
        unit: str = "",
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        """One more value of a figure."""
        limit = at_most if at_least is None else at_least
        figure = self._rows.setdefault(name, Figure(name, unit, limit, at_least is None))
        figure.values.append(value)

    def missed(self) -> list[str]:
        """The names of those that fall short."""
        return [figure.name for figure in self._rows.values() if not figure.is_met()]

    def table(self) -> str:
        """Markdown."""
        rows = [["figure", "target", "median", "middle half of rounds"], ["---"] * 4]
        rows += [figure.row() for figure in self._rows.values()]
        return markdown(rows)


def markdown(rows: Iterable[Iterable[str]]) -> str:
    """Rows of cells as a table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
