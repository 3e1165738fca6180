"""Comparison of several runs, and of two runs class by class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ensemble.core.files import without_nan
from ensemble.core.table import Cell, Table, as_text
from ensemble.metrics import find
from ensemble.report.classes import ClassScores, Labelled, balance, class_scores, labelled
from ensemble.report.sections.training import TrainingSummary, training_summary
from ensemble.runs.history import history
from ensemble.runs.run import Run
from ensemble.stats.intervals import Difference, difference, prepared_difference

HEADER = (
    "run",
    "arch",
    "epochs",
    "best train accuracy",
    "best validation accuracy",
    "validation accuracy",
    "test accuracy",
    "gap",
    "over-fits",
    "lowest train loss",
    "epochs to 90 %",
    "seconds",
    "parameters",
    "MB",
)


@dataclass(frozen=True)
class Side:
    """One run of a comparison. training: summary of its history; None if it was not trained here.

    rows: its labelled validation predictions.  test: accuracy on the test set; None if that has no labels.
    """

    run: Run
    training: TrainingSummary | None
    rows: Labelled
    test: float | None

    @property
    def valid(self) -> float:
        """Accuracy on the validation rows, with test-time augmentation if the run uses it."""

        return float((self.rows.predicted == self.rows.targets).mean())

    @property
    def parameters(self) -> int | None:
        """Number of parameters of the network."""
        return self.run.record.parameters


def sides(runs: Sequence[Run]) -> list[Side]:
    """One side per complete run; all with the same validation rows. Raises DataError, MismatchedRuns."""
    return [
        Side(run, training_summary(history(run)), rows, (run.metrics.get("test") or {}).get("accuracy"))
        for run, rows in zip(runs, labelled(runs), strict=True)
    ]


def members_table(compared: Sequence[Side]) -> Table:
    """A row for each run, unformatted, sorted by validation accuracy."""
    return Table(HEADER, [_row(side) for side in ranked(compared)])


def _row(side: Side) -> list[Cell]:
    training, record = side.training, side.run.record
    before: tuple[Cell, ...] = (None,) * 3
    after: tuple[Cell, ...] = (None,) * 4
    if training is not None:
        before = (training.epochs, training.best_train, training.best_valid)
        overfits = None if training.overfits is None else "yes" if training.overfits else "no"
        after = (training.gap, overfits, training.lowest_train_loss, training.epochs_to_target)
    megabytes = None if record.bytes is None else f"{record.bytes / 1e6:.1f}"
    costs = (record.seconds, record.parameters, megabytes)
    return [side.run.id, side.run.arch, *before, side.valid, side.test, *after, *costs]


def members_markdown(compared: Sequence[Side]) -> str:
    """Markdown table, the best validation accuracy in bold, followed by the conclusion."""
    table = members_table(compared).markdown(_text, bold=(0, HEADER.index("validation accuracy")))
    return f"{table}\n{conclusion(ranked(compared))}\n"


def members_csv(compared: Sequence[Side]) -> str:
    """The table as CSV, with unrounded numbers."""
    return members_table(compared).csv()


def members_facts(compared: Sequence[Side]) -> dict[str, object]:
    """The table and the conclusion as plain values for JSON."""
    return {"members": members_table(compared).records(), "conclusion": conclusion(ranked(compared))}


def ranked(compared: Sequence[Side]) -> list[Side]:
    """Sorted by validation accuracy, best first; ties by run id."""
    return sorted(compared, key=lambda side: (-side.valid, side.run.id))


def conclusion(ordered: Sequence[Side]) -> str:
    """One or two sentences: best run, runs not significantly worse, the smallest of these, runs that over-fit."""
    best, others = ordered[0], ordered[1:]
    n = len(best.rows.targets)
    sentence = f"{best.run.id} is the most accurate, {best.valid:.4f} of {n:,} validation rows"
    if others:
        metric = find("accuracy", best.rows.classes)
        gap = prepared_difference(metric, best.rows.probs, best.rows.targets, best.rows.groups)
        tied = [side for side in others if gap(side.rows.probs).low <= 0]
        if tied:
            sentence += (
                f"; these rows do not tell {_names(tied)} from it (95 % intervals of the paired differences)"
            )

        else:
            nearest = gap(others[0].rows.probs)
            sentence += f", {100 * nearest.value:.1f} points above the next ({nearest.interval('.1f', 100)})"
        sized = [side for side in (best, *tied) if side.parameters]
        if len(sized) > 1:
            smallest = min(sized, key=lambda side: (side.parameters or 0, side.run.id))
            if smallest is not best and best.parameters and smallest.parameters:
                share = 100 * smallest.parameters / best.parameters
                sentence += f", of which {smallest.run.id} has {share:.0f} % of the parameters"
    sentence += "."
    overfit = [side for side in ordered if side.training and side.training.overfits]
    if overfit:
        worst = max(overfit, key=lambda side: side.training.gap or 0.0 if side.training else 0.0)
        assert worst.training is not None and worst.training.gap is not None
        sentence += f" {_names(overfit)} over-fit{'s' if len(overfit) == 1 else ''}"
        sentence += f", {worst.run.id} most: training {100 * worst.training.gap:.1f} points above validation."
    return sentence


def _names(listed: Sequence[Side], limit: int = 4) -> str:
    names = [side.run.id for side in listed[:limit]]
    more = [f"{len(listed) - limit} more"] if len(listed) > limit else []
    *first, last = names + more
    return f"{', '.join(first)} and {last}" if first else last


def _text(cell: Cell) -> str:
    if isinstance(cell, float) and abs(cell) >= 10:
        return f"{cell:,.1f}"
    return f"{cell:,}" if isinstance(cell, int) else as_text(cell)


CLASS_HEADER = ("class", "run", "rows", "TP", "FN", "FP", "TN", "precision", "recall", "F1", "specificity", "AUC")


@dataclass(frozen=True)
class Pair:
    """Two runs of the same validation rows."""

    first: Side
    second: Side

    def table(self) -> Table:
        """A row per class and run, unformatted; nan where a score is not defined."""
        pairs = zip(class_scores(self.first.rows), class_scores(self.second.rows), strict=True)
        runs = (self.first.run.id, self.second.run.id)
        return Table(
            CLASS_HEADER,
            [_line(scores, run) for both in pairs for scores, run in zip(both, runs, strict=True)],
        )

    def markdown(self) -> str:
        """Markdown table, followed by the conclusion."""
        return f"{self._defined().markdown()}\n{self.sentences()}\n"

    def csv(self) -> str:
        """The table as CSV, with unrounded numbers; nan is an empty cell."""
        return self._defined().csv()

    def facts(self) -> dict[str, object]:
        """The table and the conclusion as plain values for JSON."""
        return {"classes": self.table().records(), "conclusion": self.sentences()}

    def _defined(self) -> Table:
        """The table with None for nan."""
        rows = [[without_nan(cell) for cell in row] for row in self.table().rows]
        return Table(CLASS_HEADER, rows)

    def sentences(self) -> str:
        """Paired comparison of accuracy and balanced accuracy, then of the spread of recall."""
        parts = [self._compared(metric, name) for metric, name in _COMPARED]
        first, second = (balance(class_scores(side.rows)) for side in (self.first, self.second))
        gap = second.lowest - first.lowest
        if math.isclose(gap, 0, abs_tol=1e-12):
            parts.append(f"Their lowest recalls are equal, {first.lowest:.4f}.")
            return " ".join(parts)
        better, worse = (self.second, self.first) if gap > 0 else (self.first, self.second)
        high, low = (second, first) if gap > 0 else (first, second)
        parts.append(
            f"{better.run.id} is better balanced: its lowest recall is {high.lowest:.4f} ({high.worst}) against"
            f" {low.lowest:.4f} ({low.worst}) of {worse.run.id}, its recalls deviate by {high.spread:.4f} against"
            f" {low.spread:.4f}."
        )
        return " ".join(parts)

    def _compared(self, metric_name: str, name: str) -> str:
        metric = find(metric_name, self.first.rows.classes)
        rows = self.first.rows
        gap = difference(metric, rows.probs, self.second.rows.probs, rows.targets, rows.groups)
        values = [metric(side.rows.probs, side.rows.targets) for side in (self.first, self.second)]
        better = self.first if gap.value >= 0 else self.second
        advantage: Difference = gap if gap.value >= 0 else gap.opposite()
        caveat = "" if advantage.low > 0 else ", which these rows do not settle"
        scores = f"{name}: {values[0]:.4f} for {self.first.run.id}, {values[1]:.4f} for {self.second.run.id};"
        if abs(gap.value) < 0.0005:
            return f"{scores} no difference (95 % interval of it {_points(gap.low)} to {_points(gap.high)} points)."
        return (
            f"{scores} {better.run.id} is {100 * advantage.value:.1f} points better"
            f" (95 % interval {_points(advantage.low)}"
            f" to {_points(advantage.high)}){caveat}."
        )


_COMPARED = (("accuracy", "Accuracy"), ("balanced_accuracy", "Balanced accuracy"))


def _line(scores: ClassScores, run: str) -> list[Cell]:
    counts = (scores.rows, scores.tp, scores.fn, scores.fp, scores.tn)
    return [scores.name, run, *counts, scores.precision, scores.recall, scores.f1, scores.specificity, scores.auc]


def _points(share: float) -> str:
    """A share in percentage points; never "-0.0"."""
    return f"{round(100 * share, 1) + 0.0:.1f}"
