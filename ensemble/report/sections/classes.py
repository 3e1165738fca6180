"""Per-class section: scores, confusion matrix, ROC, precision-recall and reliability diagrams."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from ensemble.core.estimate import Estimate
from ensemble.metrics import find
from ensemble.report.classes import ClassScores, Labelled, class_scores, confusion
from ensemble.report.plot import (
    DASHES,
    ClassSeries,
    Plot,
    confidences,
    precision_recall,
    reliability,
    reliability_bins,
    roc,
)
from ensemble.report.sections.members import Cell, ShadedTable
from ensemble.report.svg import SERIES, svg
from ensemble.stats.intervals import interval

MOST = 30
"""Limit of the classes for a confusion matrix, wider ones are unreadable; the top confusions are still listed."""
PAIRS = 10


@dataclass(frozen=True)
class ClassLine:
    """A row of the class table. recall: with its interval, which is not known for a class without rows."""

    scores: ClassScores
    recall: Estimate
    average_precision: float | None


def lines(rows: Labelled) -> list[ClassLine]:
    """The table row of every class, in class order."""
    return [_line(scores, rows, c) for c, scores in enumerate(class_scores(rows))]


def _line(scores: ClassScores, rows: Labelled, c: int) -> ClassLine:
    from sklearn.metrics import average_precision_score

    if not scores.rows:
        return ClassLine(scores, Estimate(scores.recall), None)
    in_class = rows.targets == c
    # the recall of a class is the accuracy on its rows
    bounds = interval(
        find("accuracy", rows.classes),
        [rows.probs[in_class]],
        rows.targets[in_class],
        None if rows.groups is None else rows.groups[in_class],
    )
    recall = Estimate(scores.recall, *bounds)
    return ClassLine(scores, recall, float(average_precision_score(in_class, rows.probs[:, c])))


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
    drawn = sorted(sorted(candidates, key=lambda c: (class_lines[c].scores.auc, c))[:SERIES])
    curves = tuple(
        Curve(
            class_lines[c].scores.name,
            class_lines[c].scores.auc,
            class_lines[c].average_precision or 0.0,
            DASHES[number % len(DASHES)],
        )
        for number, c in enumerate(drawn)
    )
    series = [
        ClassSeries(rows, c, number, dash=number % len(DASHES), label=rows.classes[c])
        for number, c in enumerate(drawn)
    ]
    areas = "; ".join(f"{curve.name} {curve.auc:.4f}" for curve in curves)
    means = "; ".join(f"{curve.name} {curve.average_precision:.4f}" for curve in curves)
    bins = reliability_bins(rows)
    values = "; ".join(
        f"{bins.counts[index]} rows at {confidence:.2f}, {100 * accuracy:.0f} % right"
        for index, confidence, accuracy in zip(
            np.flatnonzero(bins.counts), bins.confidence, bins.accuracy, strict=True
        )
    )
    return Diagrams(
        _svg(roc(series), f"ROC curves. Area under the curve: {areas or 'not defined'}."),
        _svg(precision_recall(series), f"Precision-recall curves. Average precision: {means or 'not defined'}."),
        _svg(reliability({"": bins}), f"Reliability diagram: {values}."),
        _svg(confidences({"": bins}), f"How many rows have an answer of what probability: {values}."),
        curves,
        len(candidates),
        calibration(rows),
    )


def _svg(plot: Plot, alt_text: str) -> Markup:
    return svg(plot, alt_text, height=223.2)


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
