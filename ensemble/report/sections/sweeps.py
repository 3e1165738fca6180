"""Result table of a guided search, and the report section on the sweeps stored beside the runs."""

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
from ensemble.report.sections.members import Cell, ShadedTable, rescaled


@dataclass(frozen=True)
class TrialTable:
    """Result table of a guided search. keys: the recipe keys varied.  trials: in the order evaluated."""

    metric: str
    higher: bool
    keys: tuple[str, ...]
    trials: tuple[Trial, ...]

    @property
    def ranked(self) -> list[tuple[int, Trial]]:
        """(number, trial) of the trials with a score, best first; numbers start at 1."""
        known = [(number, trial) for number, trial in enumerate(self.trials, 1) if trial.score is not None]
        return sorted(known, key=lambda entry: (-_signed(entry[1], self.higher), entry[0]))

    @property
    def best(self) -> Trial:
        """The trial with the best score. Raises DataError if no trial has one."""
        if not self.ranked:
            raise DataError(f"none of the {len(self.trials)} trials could be trained; see the errors above")
        return self.ranked[0][1]

    def markdown(self) -> str:
        """Markdown table, the best trial in bold, followed by a summary sentence."""
        rows = []
        for rank, (number, trial) in enumerate(self.ranked):
            score = f"{trial.score:.4f}"
            cells = [f"{trial.values[key]:g}" for key in self.keys]
            rows.append([str(number), *cells, score if rank else f"**{score}**"])
        values = ", ".join(f"{key} {self.best.values[key]:g}" for key in self.keys)
        failed = len(self.trials) - len(rows)
        sentence = f"Best {self.metric} of {len(rows)} trials: {self.best.score:.4f} ({values})."
        sentence += f" {failed} trials failed." if failed else ""
        return markdown(["trial", *self.keys, self.metric], rows) + (
            f"\n{sentence} The best of many looks better than it is.\n"
        )

    def facts(self) -> dict[str, object]:
        """The trials as plain values for JSON, in the order evaluated."""
        trials = [{"values": dict(trial.values), "score": trial.score} for trial in self.trials]
        return {"metric": self.metric, "trials": trials, "best": dict(self.best.values)}

    def csv(self) -> str:
        """CSV with one line per trial in the order evaluated; the score of a failed trial is empty."""
        rows: Sequence[Sequence[object]] = [
            [number, *(trial.values.get(key) for key in self.keys), trial.score]
            for number, trial in enumerate(self.trials, 1)
        ]
        return as_csv(["trial", *self.keys, self.metric], rows)

    def picture(self) -> bytes:
        """Scatter plots of the score against each key, as PNG; the best trial is circled."""

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
"""Limit of the trials listed for a guided search, best first."""

Rows = list[list[str]]


@dataclass(frozen=True)
class Sweep:
    """A stored sweep. sentence: the last non-empty line of its table.md."""

    name: str
    table: ShadedTable
    sentence: str


def sweeps(folder: Path, fingerprint: str, runs: Sequence[str]) -> list[Sweep]:
    """The sweeps with this fingerprint in sweep.json, or without one but with a run among `runs`."""
    sweep_folders = sorted(path.parent for path in (folder / "sweeps").glob("*/table.md"))
    return [sweep for path in sweep_folders if _belongs(path, fingerprint, set(runs)) and (sweep := _sweep(path))]


def _belongs(folder: Path, fingerprint: str, runs: set[str]) -> bool:
    recorded = _facts(folder).get("fingerprint")
    if recorded is not None:
        return bool(recorded == fingerprint)
    rows = _rows(folder / "runs.csv")
    column = rows[0].index("run") if rows and "run" in rows[0] else None
    return column is not None and any(row[column] in runs for row in rows[1:])


def _facts(folder: Path) -> dict[str, Any]:
    path = folder / "sweep.json"
    try:
        value = read_json(path) if path.is_file() else {}
    except DataError:
        return {}
    return value if isinstance(value, dict) else {}


def _sweep(folder: Path) -> Sweep | None:
    lines = [line for line in (folder / "table.md").read_text(encoding="utf-8").splitlines() if line.strip()]
    grid, trials = _rows(folder / "table.csv"), _rows(folder / "trials.csv")
    if len(grid) > 1:
        table = _grid(folder, grid)
    elif len(trials) > 1:
        table = _trials(trials)
    else:
        return None
    return Sweep(folder.name, table, lines[-1] if lines else "")


def _grid(folder: Path, rows: Rows) -> ShadedTable:
    runs = _rows(folder / "runs.csv")
    metric = str(_facts(folder).get("metric") or (runs[0][-1] if runs else rows[0][-1]))
    values = [[_number(cell) for cell in row[1:]] for row in rows[1:]]
    cells = _cells(values, _higher(metric))
    lines = tuple((row[0], line) for row, line in zip(rows[1:], cells, strict=True))
    return ShadedTable(
        f"{metric} of each cell; the stronger the shade, the better; the best framed",
        rows[0][0],
        tuple(rows[0][1:]),
        lines,
    )


def _trials(rows: Rows) -> ShadedTable:
    header, higher = rows[0], _higher(rows[0][-1])
    known = [row for row in rows[1:] if _number(row[-1]) is not None]
    known.sort(key=lambda row: (_number(row[-1]) or 0.0) * (-1 if higher else 1))
    scores = _cells([[_number(row[-1])] for row in known], higher)
    lines = [
        (row[0], (*(Cell(_short(cell)) for cell in row[1:-1]), *score))
        for row, score in zip(known, scores, strict=True)
    ]
    caption = f"The best {min(MOST, len(known))} of {len(rows) - 1} trials by {header[-1]}"
    return ShadedTable(caption, header[0], tuple(header[1:]), tuple(lines[:MOST]))


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
