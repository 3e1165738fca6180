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


def from_nothing(values: Sequence[Sequence[float | None]]) -> list[tuple[Cell, ...]]:
    """A cell for each number, shaded from 0 to the largest, so that near numbers look near; empty for None."""
    high = max((value for row in values for value in row if value is not None), default=1.0)

    def cell(value: float | None) -> Cell:
        return Cell("") if value is None else Cell(f"{value:.3f}", between(value, 0.0, high))

    return [tuple(map(cell, row)) for row in values]
