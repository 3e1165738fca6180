"""Two runs against each other, class by class: which is better, which is better balanced, and by how much."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ensemble.combine.paired import Difference, difference
from ensemble.metrics import find
from ensemble.report.classes import ClassScores, balance, class_scores
from ensemble.report.members import Side
from ensemble.report.tables import as_csv, markdown

HEADER = ("class", "run", "rows", "TP", "FN", "FP", "TN", "precision", "recall", "F1", "specificity", "AUC")


@dataclass(frozen=True)
class Pair:
    """Two runs of the same validation rows."""

    first: Side
    second: Side

    def markdown(self) -> str:
        """Every class of both, and sentences below."""
        rows = [[_text(value) for value in line] for line in self._lines()]
        return markdown(HEADER, rows) + f"\n{self.sentences()}\n"

    def csv(self) -> str:
        """The same with every number as it is; nan is empty."""
        rows = [
            [None if isinstance(value, float) and math.isnan(value) else value for value in line]
            for line in self._lines()
        ]
        return as_csv(HEADER, rows)

    def facts(self) -> dict[str, object]:
        """The same as plain values."""
        rows = [dict(zip(HEADER, line, strict=True)) for line in self._lines()]
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


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4f}"
    return str(value)
