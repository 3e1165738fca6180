"""Result tables of sweeps: of a grid, with the cells not separable from the best; and of a guided search."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ensemble.core.errors import DataError
from ensemble.core.files import without_nan
from ensemble.core.table import Cell, Table
from ensemble.metrics import find
from ensemble.recipe.trials import Grid, Trial
from ensemble.report.classes import labelled
from ensemble.report.figures import new_figure, png
from ensemble.runs.run import Run
from ensemble.stats.intervals import differences


@dataclass(frozen=True)
class ScoredCell:
    """One cell. place: its label on each axis.  scores: on the validation rows, one per run.  runs: run ids."""

    place: tuple[str, ...]
    scores: tuple[float, ...]
    runs: tuple[str, ...]

    @property
    def mean(self) -> float:
        """Mean score over the seeds."""
        return statistics.fmean(self.scores)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds (n - 1); None for one seed."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def text(self) -> str:
        """`0.8123`, or `0.8123 ± 0.0040` with several seeds."""
        return f"{self.mean:.4f}" + (f" ± {self.deviation:.4f}" if self.deviation is not None else "")


@dataclass(frozen=True)
class SweepTable:
    """axes: name -> labels.  cells: by place; cells without a complete run are missing.  n: validation rows.

    tied: number of other cells whose paired difference from the best cell has a 95 % interval that includes 0.
    """

    metric: str
    higher: bool
    axes: Mapping[str, tuple[str, ...]]
    cells: Mapping[tuple[str, ...], ScoredCell]
    n: int
    tied: int

    @property
    def best(self) -> ScoredCell:
        """The cell with the best mean; the first in case of ties."""
        return _best(list(self.cells.values()), self.higher)

    def table(self) -> Table:
        """The means, unrounded; None for a cell without a complete run."""
        rows = [[name, *(cell.mean if cell else None for cell in cells)] for name, cells in self._lines()]
        return Table(self._header, rows)

    def markdown(self) -> str:
        """Markdown table, the best cell in bold, followed by the conclusion."""
        rows = [[name, *(self._shown(cell) for cell in cells)] for name, cells in self._lines()]
        return f"{Table(self._header, rows).markdown()}\n{self.sentence()}\n"

    def csv(self) -> str:
        """The table of means as CSV, unrounded."""
        return self.table().csv()

    def runs_csv(self) -> str:
        """CSV with one line per run: its place, id and score."""
        rows: list[list[Cell]] = [
            [*cell.place, run, score]
            for cell in self.cells.values()
            for run, score in zip(cell.runs, cell.scores, strict=True)
        ]
        return Table([*self.axes, "run", self.metric], rows).csv()

    def facts(self) -> dict[str, object]:
        """The cells and the conclusion as plain values for JSON."""
        cells = [
            {
                **dict(zip(self.axes, cell.place, strict=True)),
                "mean": cell.mean,
                "deviation": cell.deviation,
                "runs": dict(zip(cell.runs, cell.scores, strict=True)),
            }
            for cell in self.cells.values()
        ]
        best = dict(zip(self.axes, self.best.place, strict=True))
        results = {"cells": cells, "best": best, "alike": self.tied, "conclusion": self.sentence()}
        return {"metric": self.metric, "rows": self.n, **results}

    def sentence(self) -> str:
        """The best cell, and how many other cells the paired intervals do not separate from it."""
        best = self.best
        settings = ", ".join(f"{axis} {label}" for axis, label in zip(self.axes, best.place, strict=True))
        sentence = f"Best {self.metric} on {self.n:,} validation rows: {best.text} ({settings})."
        if len(self.cells) > 1:
            others = len(self.cells) - 1
            ties = (
                f"{self.tied} of the {others} other cells cannot be told from it"
                if self.tied
                else "It is told from every other cell"
            )
            sentence += (
                f" {ties} on these rows (95 % intervals of the paired differences);"
                " the best of many also looks better than it is."
            )
        return sentence

    def picture(self) -> bytes:
        """The table as a PNG heat map: darker is better, the best cell framed."""
        from matplotlib.patches import Rectangle

        columns, lines = self._columns, self._lines()
        values = [[cell.mean if cell else None for cell in cells] for _, cells in lines]
        known = [value for row in values for value in row if value is not None]
        low, high = min(known), max(known)
        figure = new_figure(max(4.5, 2.2 + 1.1 * len(columns)), max(2.6, 1.6 + 0.5 * len(lines)))
        axes = figure.subplots()
        matrix = [[float("nan") if value is None else value for value in row] for row in values]
        colours = "viridis_r" if self.higher else "viridis"
        axes.imshow(matrix, cmap=colours, aspect="auto", vmin=low, vmax=high if high > low else low + 1e-9)
        for (y, (_, cells)), (x, _) in itertools.product(enumerate(lines), enumerate(columns)):
            cell = cells[x]
            if cell is None:
                continue
            value = cell.mean
            share = (value - low) / (high - low) if high > low else 0.5
            dark = share > 0.5 if self.higher else share < 0.5
            text = f"{value:.3f}" + (f"\n± {cell.deviation:.3f}" if cell.deviation is not None else "")
            best = cell.place == self.best.place
            axes.text(
                x,
                y,
                text,
                ha="center",
                va="center",
                fontsize=9,
                color="white" if dark else "black",
                fontweight="bold" if best else "normal",
            )
            if best:
                axes.add_patch(
                    Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, fill=False, edgecolor="tab:red", linewidth=2)
                )
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(lines)), [name for name, _ in lines])
        names = list(self.axes)
        if len(names) > 1:
            axes.set_xlabel(names[-1])
        axes.set_ylabel(" ".join(names[:-1] or names))
        axes.set_title(f"{self.metric}, {self.n:,} validation rows", fontsize=10)
        return png(figure)

    @property
    def _columns(self) -> tuple[str, ...]:
        return list(self.axes.values())[-1] if len(self.axes) > 1 else (self.metric,)

    def _lines(self) -> list[tuple[str, list[ScoredCell | None]]]:
        """The name and the cells of each row that has at least one cell."""
        if len(self.axes) < 2:
            return [(" ".join(cell.place), [cell]) for cell in self.cells.values()]
        places = dict.fromkeys(cell.place[:-1] for cell in self.cells.values())
        return [
            (" ".join(place), [self.cells.get((*place, column)) for column in self._columns]) for place in places
        ]

    @property
    def _header(self) -> list[str]:
        names = list(self.axes)
        rows = " ".join(names[:-1] or names)
        return [rows if len(names) < 2 else f"{rows} \\ {names[-1]}", *self._columns]

    def _shown(self, cell: ScoredCell | None) -> str:
        if cell is None:
            return ""
        return f"**{cell.text}**" if cell.place == self.best.place else cell.text


def sweep_table(grid: Grid, runs: Mapping[tuple[str, ...], Sequence[Run]], metric_name: str) -> SweepTable:
    """The table of `grid`. runs: the complete runs of each place. Raises DataError if there is none at all."""
    places = [cell.place for cell in grid.cells if runs.get(cell.place)]
    if not places:
        raise DataError("no cell of the sweep has a complete run; see the errors above")
    flat = [run for place in places for run in runs[place]]
    rows = dict(zip([run.id for run in flat], labelled(flat), strict=True))
    first = rows[flat[0].id]
    metric = find(metric_name, first.classes)
    scores = {run: metric(labelled_rows.probs, labelled_rows.targets) for run, labelled_rows in rows.items()}
    cells = {
        place: ScoredCell(place, tuple(scores[run.id] for run in runs[place]), tuple(run.id for run in runs[place]))
        for place in places
    }
    best = _best(list(cells.values()), metric.higher)
    others = (rows[runs[place][0].id].probs for place in places if place != best.place)
    gaps = differences(metric, rows[best.runs[0]].probs, others, first.targets, first.groups)
    tied = sum(gap.low <= 0 <= gap.high for gap in gaps)
    return SweepTable(metric_name, metric.higher, grid.axes, cells, len(first.targets), tied)


def _best(cells: Sequence[ScoredCell], higher: bool) -> ScoredCell:

    return max(cells, key=lambda cell: cell.mean if higher else -cell.mean)


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
        """Markdown table, the best trial in bold, followed by the conclusion."""
        rows = [
            [str(number), *(f"{trial.values[key]:g}" for key in self.keys), trial.score]
            for number, trial in self.ranked
        ]
        table = Table(["trial", *self.keys, self.metric], rows)
        bold = (0, len(self.keys) + 1) if rows else None
        return f"{table.markdown(bold=bold)}\n{self.sentence()}\n"

    def sentence(self) -> str:
        """The best trial, and the number of trials that failed."""
        done = len(self.ranked)
        values = ", ".join(f"{key} {self.best.values[key]:g}" for key in self.keys)
        failed = f" {len(self.trials) - done} trials failed." if len(self.trials) > done else ""
        return (
            f"Best {self.metric} of {done} trials: {self.best.score:.4f} ({values}).{failed}"
            " The best of many looks better than it is."
        )

    def facts(self) -> dict[str, object]:
        """The trials as plain values for JSON, in the order evaluated."""
        trials = [{"values": dict(trial.values), "score": trial.score} for trial in self.trials]
        return {"metric": self.metric, "trials": trials, "best": dict(self.best.values)}

    def table(self) -> Table:
        """A row per trial in the order evaluated; None as the score of a failed trial."""
        rows = [
            [number, *(trial.values.get(key) for key in self.keys), trial.score]
            for number, trial in enumerate(self.trials, 1)
        ]
        return Table(["trial", *self.keys, self.metric], rows)

    def csv(self) -> str:
        """The table as CSV."""
        return self.table().csv()

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


def facts_of(result: SweepTable | TrialTable, fingerprint: str) -> dict[str, Any]:
    """The content of sweep.json, which a report reads. fingerprint: of the data set."""
    return {
        "schema": 1,
        "fingerprint": fingerprint,
        "metric": result.metric,
        "search": isinstance(result, TrialTable),
        "table": without_nan(result.table().facts()),
        "conclusion": result.sentence(),
    }
