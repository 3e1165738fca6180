"""The cells of a sweep: every combination of values, and the members that each stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from ensemble.recipe.file import RecipeFile
from ensemble.recipe.schema import Recipe

MEMBER = "member"
"""The axis along which a recipe's own members lie, where it has several."""


@dataclass(frozen=True)
class Cell:
    """One entry of a sweep's table. place: the label on each axis.  members: the same but for their seeds."""

    place: tuple[str, ...]
    members: tuple[Recipe, ...]


@dataclass(frozen=True)
class Grid:
    """axes: name -> labels, in the order of the table.  cells: in the order of the axes' product."""

    axes: Mapping[str, tuple[str, ...]]
    cells: tuple[Cell, ...]

    @property
    def members(self) -> list[Recipe]:
        """Every member of every cell."""
        return [member for cell in self.cells for member in cell.members]


def grid_of(axes: Mapping[str, Sequence[Any]], read: Callable[[Mapping[str, Any]], RecipeFile]) -> Grid:
    """The grid of `axes`, key -> values. read: keys that win over every member's -> the recipe file with them.

    Raises RecipeError for values that a recipe does not take.
    """
    cells: list[Cell] = []
    names: dict[str, None] = {}
    for values in product(*axes.values()):
        found = read(dict(zip(axes, values, strict=True)))
        by_name: dict[str, list[Recipe]] = {}
        for member in found.members:
            by_name.setdefault(str(member.name), []).append(member)
        place = tuple(label(value) for value in values)
        for name, members in by_name.items():
            names.setdefault(name)
            cells.append(Cell((name, *place), tuple(members)))
    labels = {key: tuple(dict.fromkeys(label(value) for value in values)) for key, values in axes.items()}
    if "arch" in axes or len(names) == 1:  # the name says nothing that the axes do not
        return Grid(labels, tuple(Cell(cell.place[1:], cell.members) for cell in cells))
    order = {name: at for at, name in enumerate(names)}
    return Grid({MEMBER: tuple(names), **labels}, tuple(sorted(cells, key=lambda cell: order[cell.place[0]])))


def label(value: Any) -> str:
    """A value as a table shows it."""
    if isinstance(value, (list, tuple)):
        return "+".join(map(label, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "default"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
