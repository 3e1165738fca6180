"""Result table of a grid sweep: mean over seeds per cell, the best cell, and the cells not separable from it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ensemble.core.errors import DataError
from ensemble.core.table import as_csv, markdown
from ensemble.metrics import find
from ensemble.recipe.trials import Grid
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

    def markdown(self) -> str:
        """Markdown table, the best cell in bold, followed by the conclusion."""
        rows = [
            [" ".join(place), *(self._shown((*place, column)) for column in self._columns)] for place in self._rows
        ]
        return markdown(self._header, rows) + f"\n{self.sentence()}\n"

    def csv(self) -> str:
        """The table of means as CSV, unrounded."""
        rows = [
            [" ".join(place), *(self._mean((*place, column)) for column in self._columns)] for place in self._rows
        ]
        return as_csv(self._header, rows)

    def runs_csv(self) -> str:
        """CSV with one line per run: its place, id and score."""
        header = [*self.axes, "run", self.metric]
        return as_csv(
            header,
            [
                [*cell.place, run, score]
                for cell in self.cells.values()
                for run, score in zip(cell.runs, cell.scores, strict=True)
            ],
        )

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

        columns, rows = self._columns, self._rows
        values = [[self._mean((*place, column)) for column in columns] for place in rows]
        known = [value for row in values for value in row if value is not None]
        low, high = min(known), max(known)
        figure = new_figure(max(4.5, 2.2 + 1.1 * len(columns)), max(2.6, 1.6 + 0.5 * len(rows)))
        axes = figure.subplots()
        matrix = [[float("nan") if value is None else value for value in row] for row in values]
        colours = "viridis_r" if self.higher else "viridis"
        axes.imshow(matrix, cmap=colours, aspect="auto", vmin=low, vmax=high if high > low else low + 1e-9)
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                if value is None:
                    continue
                cell = self.cells[(*rows[y], *self._column_place(columns[x]))]
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
        axes.set_yticks(range(len(rows)), [" ".join(place) for place in rows])
        names = list(self.axes)
        if len(names) > 1:
            axes.set_xlabel(names[-1])
        axes.set_ylabel(" ".join(names[:-1] or names))
        axes.set_title(f"{self.metric}, {self.n:,} validation rows", fontsize=10)
        return png(figure)

    @property
    def _columns(self) -> tuple[str, ...]:
        return list(self.axes.values())[-1] if len(self.axes) > 1 else (self.metric,)

    @property
    def _rows(self) -> list[tuple[str, ...]]:
        """The places, without the column axis, of the rows that have at least one cell."""
        known = [cell.place[:-1] if len(self.axes) > 1 else cell.place for cell in self.cells.values()]
        return list(dict.fromkeys(known))

    @property
    def _header(self) -> list[str]:
        names = list(self.axes)
        rows = " ".join(names[:-1] or names)
        return [rows if len(names) < 2 else f"{rows} \\ {names[-1]}", *self._columns]

    def _column_place(self, column: str) -> tuple[str, ...]:
        return (column,) if len(self.axes) > 1 else ()

    def _at(self, place: tuple[str, ...]) -> ScoredCell | None:
        return self.cells.get(place if len(self.axes) > 1 else place[:-1])

    def _mean(self, place: tuple[str, ...]) -> float | None:
        cell = self._at(place)
        return None if cell is None else cell.mean

    def _shown(self, place: tuple[str, ...]) -> str:
        cell = self._at(place)
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
