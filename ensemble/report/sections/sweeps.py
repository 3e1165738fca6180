"""Report section on the sweeps stored beside the runs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble.core.errors import DataError, one_line
from ensemble.core.files import read_json
from ensemble.core.table import Cell as Value
from ensemble.core.table import Table
from ensemble.metrics import metrics
from ensemble.report.sections.members import Cell, ShadedTable, rescaled

MOST = 20
"""Limit of the trials listed for a guided search, best first."""


@dataclass(frozen=True)
class Sweep:
    """A stored sweep. sentence: its conclusion."""

    name: str
    table: ShadedTable
    sentence: str


def sweeps(folder: Path, fingerprint: str, runs: Sequence[str]) -> list[Sweep]:
    """The sweeps with this fingerprint in sweep.json, or without one but with a run among `runs`."""
    folders = sorted(path.parent for path in (folder / "sweeps").glob("*/table.md"))
    return [
        Sweep(path.name, _shaded(facts), str(facts.get("conclusion", "")))
        for path in folders
        if _belongs(facts := _stored(path), fingerprint, runs) and facts["table"].rows
    ]


def _belongs(facts: dict[str, Any], fingerprint: str, runs: Sequence[str]) -> bool:
    recorded = facts.get("fingerprint")
    return bool(recorded == fingerprint) if recorded is not None else not facts.get("runs", set()).isdisjoint(runs)


def _stored(folder: Path) -> dict[str, Any]:
    """The facts in sweep.json, `table` as a Table; of a sweep by an earlier version from the files beside it."""
    path = folder / "sweep.json"
    try:
        value = read_json(path) if path.is_file() else {}
    except DataError:
        value = {}
    facts: dict[str, Any] = value if isinstance(value, dict) else {}
    if "table" not in facts:
        return {**_earlier(folder), **facts}
    try:
        return {**facts, "table": Table.read(facts["table"])}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not as `ens sweep` writes it ({one_line(error)}); sweep again") from error


def _earlier(folder: Path) -> dict[str, Any]:
    """The facts of a sweep whose sweep.json has no table."""
    lines = [line for line in (folder / "table.md").read_text(encoding="utf-8").splitlines() if line.strip()]
    grid, trials, runs = (_csv(folder / name) for name in ("table.csv", "trials.csv", "runs.csv"))
    table = grid if grid.rows else trials
    columns = runs.columns if grid.rows and runs.columns else table.columns
    place = runs.columns.index("run") if "run" in runs.columns else None
    return {
        "metric": columns[-1] if columns else "",
        "search": not grid.rows,
        "table": table,
        "conclusion": lines[-1] if lines else "",
        "runs": set() if place is None else {str(row[place]) for row in runs.rows},
    }


def _csv(path: Path) -> Table:
    """The table in a CSV, its numbers as floats but for the first column; empty without the file."""
    if not path.is_file():
        return Table((), [])
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = [*csv.reader(file)] or [[]]
    return Table(header, [(row[0], *map(_value, row[1:])) for row in rows])


def _value(cell: str) -> Value:
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell


def _shaded(facts: dict[str, Any]) -> ShadedTable:
    return _trials(facts["table"]) if facts.get("search") else _grid(facts["table"], str(facts["metric"]))


def _grid(table: Table, metric: str) -> ShadedTable:
    cells = _cells([[_number(cell) for cell in row[1:]] for row in table.rows], _higher(metric))
    return ShadedTable(
        f"{metric} of each cell; the stronger the shade, the better; the best framed",
        table.columns[0],
        tuple(table.columns[1:]),
        tuple((str(row[0]), line) for row, line in zip(table.rows, cells, strict=True)),
    )


def _trials(table: Table) -> ShadedTable:
    metric = table.columns[-1]
    higher = _higher(metric)
    known = [(row, score) for row in table.rows if (score := _number(row[-1])) is not None]
    known.sort(key=lambda entry: -entry[1] if higher else entry[1])
    scores = _cells([[score] for _, score in known], higher)
    lines = [
        (str(row[0]), (*(Cell(_short(cell)) for cell in row[1:-1]), *score))
        for (row, _), score in zip(known, scores, strict=True)
    ]
    caption = f"The best {min(MOST, len(known))} of {len(table.rows)} trials by {metric}"
    return ShadedTable(caption, table.columns[0], tuple(table.columns[1:]), tuple(lines[:MOST]))


def _cells(values: Sequence[Sequence[float | None]], higher: bool) -> list[tuple[Cell, ...]]:
    known = [value for row in values for value in row if value is not None]
    if not known:
        return [tuple(Cell("") for _ in row) for row in values]
    worst, best = (min(known), max(known)) if higher else (max(known), min(known))

    def cell(value: float | None) -> Cell:
        if value is None:
            return Cell("")
        shade = rescaled(value, worst, best) if higher else rescaled(-value, -worst, -best)

        return Cell(f"{value:.4f}", shade, value == best)

    return [tuple(map(cell, row)) for row in values]


def _higher(metric: str) -> bool:
    first = metric.split("+")[0].split(":")[0]
    return metrics.get(first).higher if first in metrics else True


def _number(cell: Value) -> float | None:
    return float(cell) if isinstance(cell, (int, float)) else None


def _short(cell: Value) -> str:
    value = _number(cell)
    return str(cell or "") if value is None else f"{value:.4g}"
