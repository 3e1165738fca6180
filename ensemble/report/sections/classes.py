"""Class by class: the table, the confusions, the curves."""

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
from ensemble.report.sections.members import Cell, Shaded
from ensemble.report.svg import LINE, SERIES, SOFT, plot
from ensemble.stats.intervals import interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 30
"""Classes beyond which a confusion matrix is too wide to be read; the largest confusions are still listed."""
PAIRS = 10
LINES = len(SERIES)
_DASHES = (("-", "none"), ("--", "5 2"), ("-.", "5 2 1 2"), (":", "1 2"))
"""Lines that are told apart without colour too: matplotlib's names, and the strokes of the legend."""


@dataclass(frozen=True)
class ClassLine:
    """A class of the table. low, high: the 95 % interval of its recall; None without a row."""

    scores: ClassScores
    low: float | None
    high: float | None
    average_precision: float | None


def lines(rows: Labelled) -> list[ClassLine]:
    """Every class, in order."""
    return [_line(one, rows, c) for c, one in enumerate(class_scores(rows))]


def _line(one: ClassScores, rows: Labelled, c: int) -> ClassLine:
    from sklearn.metrics import average_precision_score

    if not one.rows:
        return ClassLine(one, None, None, None)
    own = rows.targets == c
    # the recall of a class is the accuracy on its rows
    low, high = interval(
        find("accuracy", rows.classes),
        [rows.probs[own]],
        rows.targets[own],
        None if rows.groups is None else rows.groups[own],
    )
    return ClassLine(one, low, high, float(average_precision_score(own, rows.probs[:, c])))


def matrix(rows: Labelled) -> Shaded | None:
    """The confusion matrix, shaded by the share of the true class; None for too many classes."""
    k = len(rows.classes)
    if k > MOST:
        return None
    counts = confusion(rows)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cells = [
        tuple(Cell(str(counts[true, said]), float(shares[true, said]), true == said) for said in range(k))
        for true in range(k)
    ]
    caption = "Confusion matrix: rows of each true class by what they were called; shaded by their share"
    return Shaded(caption, "true \\ said", rows.classes, tuple(zip(rows.classes, cells, strict=True)))


@dataclass(frozen=True)
class Confused:
    """count rows of `true`, which is `share` of them, were called `said`."""

    true: str
    said: str
    count: int
    share: float


def most_confused(rows: Labelled, limit: int = PAIRS) -> list[Confused]:
    """The pairs of classes that are mistaken most often, by count."""
    counts = confusion(rows)
    wrong = counts - np.diag(np.diag(counts))
    k = len(rows.classes)
    found = []
    for place in np.argsort(-wrong, axis=None, kind="stable")[:limit].tolist():
        true, said = divmod(place, k)
        if wrong[true, said]:
            share = float(wrong[true, said] / counts[true].sum())
            found.append(Confused(rows.classes[true], rows.classes[said], int(wrong[true, said]), share))
    return found


@dataclass(frozen=True)
class Curve:
    """A class in the legend of the curves. dash: the strokes of its line."""

    name: str
    auc: float
    average_precision: float
    dash: str


@dataclass(frozen=True)
class Diagrams:
    """curves: the classes that are drawn, in the order of their colours.  of: how many could be.

    calibration: what the reliability diagram says, in words.
    """

    roc: Markup
    precision: Markup
    reliability: Markup
    confidence: Markup
    curves: tuple[Curve, ...]
    of: int
    calibration: str


def diagrams(rows: Labelled, found: Sequence[ClassLine]) -> Diagrams:
    """ROC and precision-recall of each class against the rest, and how far probabilities can be believed.

    Two classes have one curve, of the second. Of more than eight those with the lowest area are drawn.
    """
    able = [
        c for c, line in enumerate(found) if line.average_precision is not None and math.isfinite(line.scores.auc)
    ]
    if len(rows.classes) == 2:
        able = [c for c in able if c == 1]
    drawn = sorted(sorted(able, key=lambda c: (found[c].scores.auc, c))[:LINES])
    curves = tuple(
        Curve(found[c].scores.name, found[c].scores.auc, found[c].average_precision or 0.0, _dash(number))
        for number, c in enumerate(drawn)
    )
    areas = "; ".join(f"{one.name} {one.auc:.4f}" for one in curves)
    means = "; ".join(f"{one.name} {one.average_precision:.4f}" for one in curves)
    return Diagrams(
        _roc(rows, drawn, f"ROC curves. Area under the curve: {areas or 'not defined'}."),
        _precision(rows, drawn, f"Precision-recall curves. Average precision: {means or 'not defined'}."),
        *_reliability(rows),
        curves,
        len(able),
        calibration(rows),
    )


def _dash(number: int) -> str:
    return _DASHES[number % len(_DASHES)][1]


def _style(number: int) -> dict[str, Any]:
    return {"color": SERIES[number], "linestyle": _DASHES[number % len(_DASHES)][0]}


def _roc(rows: Labelled, drawn: Sequence[int], says: str) -> Markup:
    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], ":", color=SOFT, linewidth=1)
        for number, c in enumerate(drawn):
            axes.plot(*roc_points(rows, c), **_style(number))
        axes.set(
            xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.01), title="ROC"
        )

    return plot("roc", says, draw, height=3.1)


def _precision(rows: Labelled, drawn: Sequence[int], says: str) -> Markup:
    def draw(axes: Axes) -> None:
        for number, c in enumerate(drawn):
            axes.plot(*precision_points(rows, c), **_style(number))
            axes.axhline((rows.targets == c).mean(), color=SERIES[number], linestyle=":", linewidth=0.8)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01), title="Precision-recall")

    return plot("precision", says, draw, height=3.1)


def _reliability(rows: Labelled) -> tuple[Markup, Markup]:
    found = reliability_bins(rows)

    def points(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], ":", color=SOFT, linewidth=1)
        axes.plot(found.sure, found.right, "o-", color=SERIES[0], markersize=4)
        axes.set(xlabel="probability of the answer", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
        axes.set_title("Reliability")

    def counts(axes: Axes) -> None:
        axes.bar(found.edges[:-1], found.counts, 0.1, align="edge", color=SERIES[0], edgecolor=LINE)
        axes.set(xlabel="probability of the answer", ylabel="rows", xlim=(0, 1), title="How sure it is")

    filled = np.flatnonzero(found.counts)
    said = "; ".join(
        f"{found.counts[at]} rows at {sure:.2f}, {100 * right:.0f} % right"
        for at, sure, right in zip(filled, found.sure, found.right, strict=True)
    )
    return (
        plot("reliability", f"Reliability diagram: {said}.", points, height=3.1),
        plot("confidence", f"How many rows have an answer of what probability: {said}.", counts, height=3.1),
    )


def calibration(rows: Labelled) -> str:
    """What the probabilities are worth, in a sentence."""
    sure, right = float(rows.probs.max(axis=1).mean()), float((rows.predicted == rows.targets).mean())
    error = find("ece", rows.classes)(rows.probs, rows.targets)
    gap = 100 * (sure - right)
    word = "about as sure as it may be" if abs(gap) < 1 else "too sure of itself" if gap > 0 else "not sure enough"
    return (
        f"On average it gives its answer {100 * sure:.1f} % and is right in {100 * right:.1f} % of rows: {word}."
        f" Its probabilities are off by {100 * error:.1f} points (expected calibration error)."
    )
