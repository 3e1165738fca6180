"""Per-class section: scores, confusion matrix, ROC, precision-recall and reliability diagrams."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from ensemble.metrics import find
from ensemble.report.classes import ClassScores, Labelled, class_scores, confusion
from ensemble.report.figures import precision_points, reliability_bins, roc_points
from ensemble.report.sections.members import Cell, ShadedTable
from ensemble.report.svg import LINE, SERIES, SOFT, plot
from ensemble.stats.intervals import interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 30
"""Limit of the classes for a confusion matrix, wider ones are unreadable; the top confusions are still listed."""
PAIRS = 10
LINES = len(SERIES)
_DASHES = (("-", "none"), ("--", "5 2"), ("-.", "5 2 1 2"), (":", "1 2"))
"""Line styles, to distinguish curves without colour: matplotlib's linestyle and the legend's stroke-dasharray."""


@dataclass(frozen=True)
class ClassLine:
    """A row of the class table. low, high: 95 % interval of the recall. All None for a class without rows."""

    scores: ClassScores
    low: float | None
    high: float | None
    average_precision: float | None


def lines(rows: Labelled) -> list[ClassLine]:
    """The table row of every class, in class order."""
    return [_line(scores, rows, c) for c, scores in enumerate(class_scores(rows))]


def _line(scores: ClassScores, rows: Labelled, c: int) -> ClassLine:
    from sklearn.metrics import average_precision_score

    if not scores.rows:
        return ClassLine(scores, None, None, None)
    in_class = rows.targets == c
    # the recall of a class is the accuracy on its rows
    low, high = interval(
        find("accuracy", rows.classes),
        [rows.probs[in_class]],
        rows.targets[in_class],
        None if rows.groups is None else rows.groups[in_class],
    )
    return ClassLine(scores, low, high, float(average_precision_score(in_class, rows.probs[:, c])))


def matrix(rows: Labelled) -> ShadedTable | None:
    """The confusion matrix, shaded by the share of the true class; None for more than `MOST` classes."""
    k = len(rows.classes)
    if k > MOST:
        return None
    counts = confusion(rows)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cells = [
        tuple(
            Cell(str(counts[true, predicted]), float(shares[true, predicted]), true == predicted)
            for predicted in range(k)
        )
        for true in range(k)
    ]
    caption = "Confusion matrix: rows of each true class by what they were called; shaded by their share"
    return ShadedTable(caption, "true \\ said", rows.classes, tuple(zip(rows.classes, cells, strict=True)))


@dataclass(frozen=True)
class Confused:
    """`count` rows of class `true`, a fraction `share` of its rows, were predicted as `predicted`."""

    true: str
    predicted: str
    count: int
    share: float


def most_confused(rows: Labelled, limit: int = PAIRS) -> list[Confused]:
    """The `limit` most frequent pairs of true and wrongly predicted class, by count."""
    counts = confusion(rows)
    wrong = counts - np.diag(np.diag(counts))
    k = len(rows.classes)
    pairs = []
    for flat_index in np.argsort(-wrong, axis=None, kind="stable")[:limit].tolist():
        true, predicted = divmod(flat_index, k)
        if wrong[true, predicted]:
            share = float(wrong[true, predicted] / counts[true].sum())
            pairs.append(Confused(rows.classes[true], rows.classes[predicted], int(wrong[true, predicted]), share))
    return pairs


@dataclass(frozen=True)
class Curve:
    """Legend entry of a class. dash: its stroke-dasharray."""

    name: str
    auc: float
    average_precision: float
    dash: str


@dataclass(frozen=True)
class Diagrams:
    """The SVG diagrams. curves: legend of the classes drawn, in colour order.  total: classes that have curves.

    calibration: summary sentence of the reliability diagram.
    """

    roc: Markup
    precision: Markup
    reliability: Markup
    confidence: Markup
    curves: tuple[Curve, ...]
    total: int
    calibration: str


def diagrams(rows: Labelled, class_lines: Sequence[ClassLine]) -> Diagrams:
    """One-against-rest ROC and precision-recall curves, and reliability diagrams.

    Two classes have one curve, of the second. Of more than eight those with the lowest area are drawn.
    """
    candidates = [
        c
        for c, line in enumerate(class_lines)
        if line.average_precision is not None and math.isfinite(line.scores.auc)
    ]
    if len(rows.classes) == 2:
        candidates = [c for c in candidates if c == 1]
    drawn = sorted(sorted(candidates, key=lambda c: (class_lines[c].scores.auc, c))[:LINES])
    curves = tuple(
        Curve(
            class_lines[c].scores.name,
            class_lines[c].scores.auc,
            class_lines[c].average_precision or 0.0,
            _dash(number),
        )
        for number, c in enumerate(drawn)
    )
    areas = "; ".join(f"{curve.name} {curve.auc:.4f}" for curve in curves)
    means = "; ".join(f"{curve.name} {curve.average_precision:.4f}" for curve in curves)
    return Diagrams(
        _roc(rows, drawn, f"ROC curves. Area under the curve: {areas or 'not defined'}."),
        _precision(rows, drawn, f"Precision-recall curves. Average precision: {means or 'not defined'}."),
        *_reliability(rows),
        curves,
        len(candidates),
        calibration(rows),
    )


def _dash(number: int) -> str:
    return _DASHES[number % len(_DASHES)][1]


def _style(number: int) -> dict[str, Any]:
    return {"color": SERIES[number], "linestyle": _DASHES[number % len(_DASHES)][0]}


def _roc(rows: Labelled, drawn: Sequence[int], alt_text: str) -> Markup:
    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], ":", color=SOFT, linewidth=1)
        for number, c in enumerate(drawn):
            axes.plot(*roc_points(rows, c), **_style(number))
        axes.set(
            xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.01), title="ROC"
        )

    return plot("roc", alt_text, draw, height=3.1)


def _precision(rows: Labelled, drawn: Sequence[int], alt_text: str) -> Markup:
    def draw(axes: Axes) -> None:
        for number, c in enumerate(drawn):
            axes.plot(*precision_points(rows, c), **_style(number))
            axes.axhline((rows.targets == c).mean(), color=SERIES[number], linestyle=":", linewidth=0.8)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01), title="Precision-recall")

    return plot("precision", alt_text, draw, height=3.1)


def _reliability(rows: Labelled) -> tuple[Markup, Markup]:
    bins = reliability_bins(rows)

    def points(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], ":", color=SOFT, linewidth=1)
        axes.plot(bins.confidence, bins.accuracy, "o-", color=SERIES[0], markersize=4)
        axes.set(xlabel="probability of the answer", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
        axes.set_title("Reliability")

    def counts(axes: Axes) -> None:
        axes.bar(bins.edges[:-1], bins.counts, 0.1, align="edge", color=SERIES[0], edgecolor=LINE)
        axes.set(xlabel="probability of the answer", ylabel="rows", xlim=(0, 1), title="How sure it is")

    filled = np.flatnonzero(bins.counts)
    values = "; ".join(
        f"{bins.counts[index]} rows at {confidence:.2f}, {100 * accuracy:.0f} % right"
        for index, confidence, accuracy in zip(filled, bins.confidence, bins.accuracy, strict=True)
    )
    return (
        plot("reliability", f"Reliability diagram: {values}.", points, height=3.1),
        plot("confidence", f"How many rows have an answer of what probability: {values}.", counts, height=3.1),
    )


def calibration(rows: Labelled) -> str:
    """Sentence that compares mean confidence with accuracy and gives the expected calibration error."""
    confidence, accuracy = float(rows.probs.max(axis=1).mean()), float((rows.predicted == rows.targets).mean())
    error = find("ece", rows.classes)(rows.probs, rows.targets)
    gap = 100 * (confidence - accuracy)
    verdict = (
        "about as sure as it may be" if abs(gap) < 1 else "too sure of itself" if gap > 0 else "not sure enough"
    )
    return (
        f"On average it gives its answer {100 * confidence:.1f} % and is right in"
        f" {100 * accuracy:.1f} % of rows: {verdict}."
        f" Its probabilities are off by {100 * error:.1f} points (expected calibration error)."
    )
