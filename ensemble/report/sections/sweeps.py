"""The sweeps of a data set that are kept in the folder of runs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble.errors import DataError
from ensemble.files import read_json
from ensemble.metrics import metrics
from ensemble.report.sections.shaded import Cell, Shaded, between

MOST = 20
"""Trials of a guided search that are listed, the best first."""

Rows = list[list[str]]


@dataclass(frozen=True)
class Sweep:
    """One sweep. sentence: what its table said below."""

    name: str
    table: Shaded
    sentence: str


def sweeps(folder: Path, fingerprint: str, runs: Sequence[str]) -> list[Sweep]:
    """The sweeps of this data set: those that say so, or whose runs are among `runs`."""
    places = sorted(path.parent for path in (folder / "sweeps").glob("*/table.md"))
    return [found for place in places if _belongs(place, fingerprint, set(runs)) and (found := _sweep(place))]


def _belongs(place: Path, fingerprint: str, runs: set[str]) -> bool:
    said = _facts(place).get("fingerprint")
    if said is not None:
        return bool(said == fingerprint)
    rows = _rows(place / "runs.csv")
    at = rows[0].index("run") if rows and "run" in rows[0] else None
    return at is not None and any(row[at] in runs for row in rows[1:])


def _facts(place: Path) -> dict[str, Any]:
    path = place / "sweep.json"
    try:
        found = read_json(path) if path.is_file() else {}
    except DataError:
        return {}
    return found if isinstance(found, dict) else {}


def _sweep(place: Path) -> Sweep | None:
    said = [line for line in (place / "table.md").read_text(encoding="utf-8").splitlines() if line.strip()]
    grid, trials = _rows(place / "table.csv"), _rows(place / "trials.csv")
    if len(grid) > 1:
        table = _grid(place, grid)
    elif len(trials) > 1:
        table = _trials(trials)
    else:
        return None
    return Sweep(place.name, table, said[-1] if said else "")


def _grid(place: Path, rows: Rows) -> Shaded:
    runs = _rows(place / "runs.csv")
    metric = str(_facts(place).get("metric") or (runs[0][-1] if runs else rows[0][-1]))
    values = [[_number(cell) for cell in row[1:]] for row in rows[1:]]
    cells = _cells(values, _higher(metric))
    lines = tuple((row[0], line) for row, line in zip(rows[1:], cells, strict=True))
    return Shaded(
        f"{metric} of each cell; the stronger the shade, the better; the best framed",
        rows[0][0],
        tuple(rows[0][1:]),
        lines,
    )


def _trials(rows: Rows) -> Shaded:
    header, higher = rows[0], _higher(rows[0][-1])
    known = [row for row in rows[1:] if _number(row[-1]) is not None]
    known.sort(key=lambda row: (_number(row[-1]) or 0.0) * (-1 if higher else 1))
    scores = _cells([[_number(row[-1])] for row in known], higher)
    lines = [
        (row[0], (*(Cell(_short(cell)) for cell in row[1:-1]), *score))
        for row, score in zip(known, scores, strict=True)
    ]
    caption = f"The best {min(MOST, len(known))} of {len(rows) - 1} trials by {header[-1]}"
    return Shaded(caption, header[0], tuple(header[1:]), tuple(lines[:MOST]))


def _cells(values: Sequence[Sequence[float | None]], higher: bool) -> list[tuple[Cell, ...]]:
    known = [value for row in values for value in row if value is not None]
    if not known:
        return [tuple(Cell("") for _ in row) for row in values]
    worst, best = (min(known), max(known)) if higher else (max(known), min(known))

    def cell(value: float | None) -> Cell:
        if value is None:
            return Cell("")
        shade = between(value, worst, best) if higher else between(-value, -worst, -best)
        return Cell(f"{value:.4f}", shade, value == best)

    return [tuple(map(cell, row)) for row in values]


def _higher(metric: str) -> bool:
    first = metric.split("+")[0].split(":")[0]
    return metrics.get(first).higher if first in metrics else True


def _rows(path: Path) -> Rows:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _short(cell: str) -> str:
    value = _number(cell)
    return cell if value is None else f"{value:.4g}"
