"""The trials of a guided search, and the sweeps that are kept with the runs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble.core.errors import DataError
from ensemble.core.files import read_json
from ensemble.core.table import as_csv, markdown
from ensemble.metrics import metrics
from ensemble.recipe.trials import Trial
from ensemble.report.figures import new_figure, png
from ensemble.report.sections.members import Cell, Shaded, between


@dataclass(frozen=True)
class TrialTable:
    """keys: what was varied.  trials: in the order in which they were tried."""

    metric: str
    higher: bool
    keys: tuple[str, ...]
    trials: tuple[Trial, ...]

    @property
    def ranked(self) -> list[tuple[int, Trial]]:
        """(number, trial) of those with a score, the best first; numbers count from 1."""
        known = [(number, trial) for number, trial in enumerate(self.trials, 1) if trial.score is not None]
        return sorted(known, key=lambda entry: (-_signed(entry[1], self.higher), entry[0]))

    @property
    def best(self) -> Trial:
        """The trial with the best score. Raises DataError where none has one."""
        if not self.ranked:
            raise DataError(f"none of the {len(self.trials)} trials could be trained; see the errors above")
        return self.ranked[0][1]

    def markdown(self) -> str:
        """The table, the best in bold, and a sentence below."""
        rows = []
        for place, (number, trial) in enumerate(self.ranked):
            score = f"{trial.score:.4f}"
            cells = [f"{trial.values[key]:g}" for key in self.keys]
            rows.append([str(number), *cells, score if place else f"**{score}**"])
        values = ", ".join(f"{key} {self.best.values[key]:g}" for key in self.keys)
        failed = len(self.trials) - len(rows)
        said = f"Best {self.metric} of {len(rows)} trials: {self.best.score:.4f} ({values})."
        said += f" {failed} trials failed." if failed else ""
        return markdown(["trial", *self.keys, self.metric], rows) + (
            f"\n{said} The best of many looks better than it is.\n"
        )

    def facts(self) -> dict[str, object]:
        """The trials as plain values, in the order in which they were tried."""
        trials = [{"values": dict(trial.values), "score": trial.score} for trial in self.trials]
        return {"metric": self.metric, "trials": trials, "best": dict(self.best.values)}

    def csv(self) -> str:
        """A line for each trial in the order in which they were tried, without a score where it failed."""
        rows: Sequence[Sequence[object]] = [
            [number, *(trial.values.get(key) for key in self.keys), trial.score]
            for number, trial in enumerate(self.trials, 1)
        ]
        return as_csv(["trial", *self.keys, self.metric], rows)

    def picture(self) -> bytes:
        """A PNG: the score against each key."""

        figure = new_figure(3.4 * len(self.keys) + 0.6, 3.2)
        panels = figure.subplots(1, len(self.keys), squeeze=False, sharey=True)[0]
        known = [trial for _, trial in self.ranked]
        for key, axes in zip(self.keys, panels, strict=True):
            values = [float(trial.values[key]) for trial in known]
            axes.scatter(values, [trial.score for trial in known], color="tab:blue", s=22)
            axes.scatter(values[:1], [known[0].score], facecolors="none", edgecolors="tab:red", s=90, linewidths=2)
            if min(values) > 0 and max(values) > 30 * min(values):
                axes.set_xscale("log")
            axes.set_xlabel(key)
            axes.grid(alpha=0.3)
        panels[0].set_ylabel(self.metric)
        return png(figure)


def _signed(trial: Trial, higher: bool) -> float:
    assert trial.score is not None
    return trial.score if higher else -trial.score


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
