"""Runs side by side, and two runs class by class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ensemble.core.table import as_csv, markdown
from ensemble.metrics import find
from ensemble.report.classes import ClassScores, Labelled, balance, class_scores, labelled
from ensemble.report.sections.training import Course, course
from ensemble.runs.history import history
from ensemble.runs.run import Run
from ensemble.stats.intervals import Difference, against, difference

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
    """One run. course: of its training, None where it was not trained here.  rows: its validation predictions.

    valid: the accuracy of these, with all views; test: where labels are.
    """

    run: Run
    course: Course | None
    rows: Labelled
    test: float | None

    @property
    def valid(self) -> float:
        """The share of the validation rows that are right."""
        return float((self.rows.predicted == self.rows.targets).mean())

    @property
    def parameters(self) -> int | None:
        """How many the network has."""
        return self.run.facts.get("parameters")


def sides(runs: Sequence[Run]) -> list[Side]:
    """Complete runs of the same validation rows. Raises DataError, MismatchedRuns."""
    return [
        Side(run, course(history(run)), rows, (run.metrics.get("test") or {}).get("accuracy"))
        for run, rows in zip(runs, labelled(runs), strict=True)
    ]


def values(one: Side) -> list[object]:
    """A line of the table, as numbers."""
    told, facts = one.course, one.run.facts
    return [
        one.run.id,
        one.run.arch,
        told and told.epochs,
        told and told.best_train,
        told and told.best_valid,
        one.valid,
        one.test,
        told and told.gap,
        None if told is None or told.overfits is None else "yes" if told.overfits else "no",
        told and told.lowest_train_loss,
        told and told.fast,
        facts.get("seconds"),
        facts.get("parameters"),
        None if facts.get("bytes") is None else f"{facts['bytes'] / 1e6:.1f}",
    ]


def members_markdown(found: Sequence[Side]) -> str:
    """The table, the best by validation accuracy first, and the conclusion below."""
    ordered = ranked(found)
    rows = [[_text(value) for value in values(one)] for one in ordered]
    best = HEADER.index("validation accuracy")
    rows[0][best] = f"**{rows[0][best]}**"
    return markdown(HEADER, rows) + f"\n{conclusion(ordered)}\n"


def members_csv(found: Sequence[Side]) -> str:
    """The table with every number as it is."""
    return as_csv(HEADER, [values(one) for one in ranked(found)])


def members_facts(found: Sequence[Side]) -> dict[str, object]:
    """The table and the conclusion as plain values."""
    ordered = ranked(found)
    rows = [dict(zip(HEADER, values(one), strict=True)) for one in ordered]
    return {"members": rows, "conclusion": conclusion(ordered)}


def ranked(found: Sequence[Side]) -> list[Side]:
    """The best by validation accuracy first, ties by id."""
    return sorted(found, key=lambda one: (-one.valid, one.run.id))


def conclusion(ordered: Sequence[Side]) -> str:
    """One sentence or two: who is best, who cannot be told from it, who is cheapest of these, who over-fits."""
    best, others = ordered[0], ordered[1:]
    n = len(best.rows.targets)
    said = f"{best.run.id} is the most accurate, {best.valid:.4f} of {n:,} validation rows"
    if others:
        metric = find("accuracy", best.rows.classes)
        gap = against(metric, best.rows.probs, best.rows.targets, best.rows.groups)
        alike = [one for one in others if gap(one.rows.probs).low <= 0]
        if alike:
            said += f"; these rows do not tell {_names(alike)} from it (95 % intervals of the paired differences)"
        else:
            nearest = gap(others[0].rows.probs)
            said += (
                f", {100 * nearest.value:.1f} points above the next"
                f" (95 % interval {100 * nearest.low:.1f} to {100 * nearest.high:.1f})"
            )
        sized = [one for one in (best, *alike) if one.parameters]
        if len(sized) > 1:
            small = min(sized, key=lambda one: (one.parameters or 0, one.run.id))
            if small is not best and best.parameters and small.parameters:
                share = 100 * small.parameters / best.parameters
                said += f", of which {small.run.id} has {share:.0f} % of the parameters"
    said += "."
    overfit = [one for one in ordered if one.course and one.course.overfits]
    if overfit:
        worst = max(overfit, key=lambda one: one.course.gap or 0.0 if one.course else 0.0)
        assert worst.course is not None and worst.course.gap is not None
        said += f" {_names(overfit)} over-fit{'s' if len(overfit) == 1 else ''}"
        said += f", {worst.run.id} most: training {100 * worst.course.gap:.1f} points above validation."
    return said


def _names(named: Sequence[Side], limit: int = 4) -> str:
    names = [one.run.id for one in named[:limit]]
    more = [f"{len(named) - limit} more"] if len(named) > limit else []
    *first, last = names + more
    return f"{', '.join(first)} and {last}" if first else last


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


CLASS_HEADER = ("class", "run", "rows", "TP", "FN", "FP", "TN", "precision", "recall", "F1", "specificity", "AUC")


@dataclass(frozen=True)
class Pair:
    """Two runs of the same validation rows."""

    first: Side
    second: Side

    def markdown(self) -> str:
        """Every class of both, and sentences below."""
        rows = [[_cell_text(value) for value in line] for line in self._lines()]
        return markdown(CLASS_HEADER, rows) + f"\n{self.sentences()}\n"

    def csv(self) -> str:
        """The same with every number as it is; nan is empty."""
        rows = [
            [None if isinstance(value, float) and math.isnan(value) else value for value in line]
            for line in self._lines()
        ]
        return as_csv(CLASS_HEADER, rows)

    def facts(self) -> dict[str, object]:
        """The same as plain values."""
        rows = [dict(zip(CLASS_HEADER, line, strict=True)) for line in self._lines()]
        return {"classes": rows, "conclusion": self.sentences()}

    def sentences(self) -> str:
        """Accuracy and balanced accuracy compared on the same rows, and the evenness of recall."""
        parts = [self._compared(metric, name) for metric, name in _COMPARED]
        one, other = (balance(class_scores(side.rows)) for side in (self.first, self.second))
        gap = other.lowest - one.lowest
        if math.isclose(gap, 0, abs_tol=1e-12):
            parts.append(f"Their lowest recalls are equal, {one.lowest:.4f}.")
            return " ".join(parts)
        better, worse = (self.second, self.first) if gap > 0 else (self.first, self.second)
        high, low = (other, one) if gap > 0 else (one, other)
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
        shown: Difference = gap if gap.value >= 0 else gap.opposite()
        sure = "" if shown.low > 0 else ", which these rows do not settle"
        scores = f"{name}: {values[0]:.4f} for {self.first.run.id}, {values[1]:.4f} for {self.second.run.id};"
        if abs(gap.value) < 0.0005:
            return f"{scores} no difference (95 % interval of it {_points(gap.low)} to {_points(gap.high)} points)."
        return (
            f"{scores} {better.run.id} is {100 * shown.value:.1f} points better (95 % interval {_points(shown.low)}"
            f" to {_points(shown.high)}){sure}."
        )

    def _lines(self) -> list[list[object]]:
        pairs = zip(class_scores(self.first.rows), class_scores(self.second.rows), strict=True)
        runs = (self.first.run.id, self.second.run.id)
        return [_line(one, run) for both in pairs for one, run in zip(both, runs, strict=True)]


_COMPARED = (("accuracy", "Accuracy"), ("balanced_accuracy", "Balanced accuracy"))


def _line(one: ClassScores, run: str) -> list[object]:
    counts = [one.rows, one.tp, one.fn, one.fp, one.tn]
    return [one.name, run, *counts, one.precision, one.recall, one.f1, one.specificity, one.auc]


def _points(share: float) -> str:
    """A share in points, without a minus before nothing."""
    return f"{round(100 * share, 1) + 0.0:.1f}"


def _cell_text(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4f}"
    return str(value)
