"""Tables of numbers with a shade behind each: heat maps that a screen reader can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """text: what stands there.  shade: 0 to 1.  mark: whether it is pointed out."""

    text: str
    shade: float = 0.0
    mark: bool = False


@dataclass(frozen=True)
class Shaded:
    """A heat map as a table. corner: what the rows and the columns are."""

    caption: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def between(value: float, low: float, high: float) -> float:
    """Where `value` lies from `low`, 0, to `high`, 1; the middle where these are one."""
    return 0.5 if high <= low else min(1.0, max(0.0, (value - low) / (high - low)))


def by_value(values: Sequence[Sequence[float | None]], *, digits: int = 4) -> list[tuple[Cell, ...]]:
    """A cell for each number, the higher the darker; an empty one for None."""
    known = [value for row in values for value in row if value is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    return [
        tuple(
            Cell("") if value is None else Cell(f"{value:.{digits}f}", between(value, low, high)) for value in row
        )
        for row in values
    ]
