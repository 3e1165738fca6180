"""Line plots as values: what is drawn, on which axes. `report.svg` and `report.figures` render them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ensemble.core.predictions import Ints, Wide
from ensemble.report.classes import Labelled
from ensemble.runs.history import Epoch

Numbers = Sequence[float] | Wide | Ints

DASHES = ("none", "5 2", "5 2 1 2", "1 2")
"""SVG's stroke-dasharray of the four styles of lines: solid, dashed, dash-dotted, dotted."""
DASHED, DOTTED = 1, 3
MOST_TICKS = 8


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`. integer: only whole numbers have a tick.  log: logarithmic."""

    label: str
    low: float
    high: float
    integer: bool = False
    log: bool = False

    def share(self, values: Numbers) -> Wide:
        """The position of each value on the axis: 0 at the low end, 1 at the high one."""
        low, high, positions = self.low, self.high, np.asarray(values, np.float64)
        if self.log:
            low, high, positions = math.log10(low), math.log10(high), np.log10(positions)
        shares: Wide = (positions - low) / (high - low)
        return shares

    def ticks(self) -> list[tuple[float, str]]:
        """At most `MOST_TICKS` values, with their texts."""
        if self.log:
            return self._decades()
        power = math.floor(math.log10((self.high - self.low) / MOST_TICKS))
        steps = [factor * 10.0 ** (power + more) for more in (0, 1) for factor in (1, 2, 5)]
        step = next(step for step in steps if (self.high - self.low) / step < MOST_TICKS)
        step = max(1.0, step) if self.integer else step
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(number * step, f"{number * step + 0.0:,.{decimals}f}") for number in range(first, last + 1)]

    def _decades(self) -> list[tuple[float, str]]:
        """Powers of ten, at most five as their texts are long; 1, 2 and 5 times these where there are not two."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for factors in ((1,), (1, 2, 5)):
            values = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
            values = [
                value for value in values if self.low <= value * (1 + 1e-9) and value <= self.high * (1 + 1e-9)
            ]
            if len(values) > 1:
                break
        return [(value, f"{value:g}") for value in values[:: -(-len(values) // 5) or 1]]


def axis_of(label: str, values: Iterable[float], *, integer: bool = False, log: bool = False) -> Axis:
    """The axis that holds all finite `values`, with a margin of 5 %."""
    known = [math.log10(value) if log else value for value in values if math.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    margin = 0.05 * (high - low) or max(0.5 if integer or log else 0.05 * abs(high), 1e-3)
    low, high = low - margin, high + margin
    return Axis(label, 10**low if log else low, 10**high if log else high, integer, log)


@dataclass(frozen=True)
class Line:
    """A line through points. colour: number of the series, None for a guide in grey.  dash: index of `DASHES`.

    dots: whether each point has a dot.  label: its text in the legend.
    """

    x: Numbers
    y: Numbers
    colour: int | None
    dash: int = 0
    width: float = 1.7
    dots: bool = False
    label: str | None = None


@dataclass(frozen=True)
class Histogram:
    """Counts (n,) between edges (n + 1,). filled: bars, otherwise their outline."""

    edges: Numbers
    counts: Numbers
    colour: int
    filled: bool


@dataclass(frozen=True)
class Guide:
    """A vertical line at x, dotted. label: its text in the legend."""

    x: float
    colour: int | None
    label: str | None = None


@dataclass(frozen=True)
class Plot:
    """One pair of axes and what is drawn into them, the first below the others."""

    title: str
    x: Axis
    y: Axis
    marks: tuple[Line | Histogram, ...]
    guides: tuple[Guide, ...] = field(default=())


def _without_repeats(values: Iterable[tuple[float, int]]) -> dict[float, int | None]:
    """value -> number of the series that has it; None for a value of several series."""
    series_of: dict[float, int | None] = {}
    for value, series in values:
        series_of[value] = None if value in series_of else series
    return series_of


# ---- learning curves ----


def stage_ends(epochs: Sequence[Epoch]) -> list[float]:
    """x-coordinates of the stage boundaries, half-way between two epochs; the first epoch is at 1."""
    return [
        number + 0.5
        for number, (epoch, following) in enumerate(itertools.pairwise(epochs), 1)
        if epoch.stage != following.stage
    ]


def learning_curve(histories: Mapping[str, Sequence[Epoch]], quantity: str) -> Plot:
    """`loss` or `accuracy` over the epochs of all stages: training dashed, validation solid, a colour per run."""
    marks: list[Line] = []
    for series, (name, epochs) in enumerate(histories.items()):
        training = [float(getattr(epoch, f"train_{quantity}")) for epoch in epochs]
        marks.append(Line(range(1, len(epochs) + 1), training, series, DASHED))
        evaluated = [
            (number, float(value))
            for number, epoch in enumerate(epochs, 1)
            if (value := getattr(epoch, f"valid_{quantity}")) is not None
        ]
        numbers, values = [number for number, _ in evaluated], [value for _, value in evaluated]
        marks.append(Line(numbers, values, series, dots=len(evaluated) < 3, label=name))
    ends = [(x, series) for series, epochs in enumerate(histories.values()) for x in stage_ends(epochs)]
    return Plot(
        f"{quantity} (dashed: training)",
        axis_of("epoch", (x for mark in marks for x in mark.x), integer=True),
        axis_of(quantity, (y for mark in marks for y in mark.y)),
        tuple(marks),
        tuple(Guide(x, series if len(histories) > 1 else None) for x, series in _without_repeats(ends).items()),
    )


@dataclass(frozen=True)
class RangeTest:
    """A curve of the learning-rate finder. losses: smoothed, per rate.  chosen_rate: the one taken, if known."""

    rates: Sequence[float]
    losses: Sequence[float]
    chosen_rate: float | None


def rate_curve(curves: Sequence[RangeTest], title: str, label: Callable[[float], str | None]) -> Plot:
    """The loss over the learning rate. The loss of a diverging training is cut off. label: of a chosen rate."""
    low, start = min(min(curve.losses) for curve in curves), max(curve.losses[0] for curve in curves)
    height = start - low or abs(start) or 1.0
    return Plot(
        title,
        axis_of("learning rate", (rate for curve in curves for rate in curve.rates), log=True),
        Axis("smoothed training loss", low - 0.05 * height, start + height),
        tuple(Line(curve.rates, curve.losses, series) for series, curve in enumerate(curves)),
        tuple(
            Guide(curve.chosen_rate, series if len(curves) > 1 else 1, label(curve.chosen_rate))
            for series, curve in enumerate(curves)
            if curve.chosen_rate
        ),
    )


# ---- predictions with labels ----


@dataclass(frozen=True)
class ClassSeries:
    """Class `c` of some rows against the rest, drawn in the colour of `series`."""

    rows: Labelled
    c: int
    series: int
    dash: int = 0
    label: str | None = None

    @property
    def share(self) -> float:
        """Share of the rows that are of the class."""
        return float((self.rows.targets == self.c).mean())


def _unit(label: str, high: float = 1.0) -> Axis:
    return Axis(label, 0.0, high)


_DIAGONAL = Line((0.0, 1.0), (0.0, 1.0), None, DOTTED, 1.0)


def roc(curves: Sequence[ClassSeries], title: str = "ROC") -> Plot:
    """ROC curves of classes against the rest."""
    from sklearn.metrics import roc_curve

    marks = [_DIAGONAL]
    for curve in curves:
        fpr, tpr, _ = roc_curve(curve.rows.targets == curve.c, curve.rows.probs[:, curve.c])
        marks.append(Line(fpr, tpr, curve.series, curve.dash, label=curve.label))
    return Plot(title, _unit("false positive rate"), _unit("true positive rate", 1.01), tuple(marks))


def precision_recall(curves: Sequence[ClassSeries], title: str = "Precision-recall") -> Plot:
    """Precision-recall curves of classes against the rest; dotted: the precision without any skill."""
    from sklearn.metrics import precision_recall_curve

    marks = []
    for curve in curves:
        precision, recall, _ = precision_recall_curve(curve.rows.targets == curve.c, curve.rows.probs[:, curve.c])
        marks.append(Line(recall, precision, curve.series, curve.dash, label=curve.label))
    for share, series in _without_repeats((curve.share, curve.series) for curve in curves).items():
        marks.append(Line((0.0, 1.0), (share, share), series, DOTTED, 0.8))
    return Plot(title, _unit("recall"), _unit("precision", 1.01), tuple(marks))


@dataclass(frozen=True)
class Bins:
    """Rows binned by confidence, the probability of the predicted class. edges: (bins + 1,).  counts: (bins,).

    confidence, accuracy: mean confidence and accuracy of each bin that is not empty.
    """

    edges: Wide
    counts: Ints
    confidence: Wide
    accuracy: Wide


def reliability_bins(rows: Labelled, bins: int = 10) -> Bins:
    """`bins` bins of equal width from 0 to 1."""
    confidence = rows.probs.max(axis=1)
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.clip(np.digitize(confidence, edges) - 1, 0, bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    filled = counts > 0
    accuracy = np.bincount(bin_of, rows.predicted == rows.targets, bins)[filled] / counts[filled]
    return Bins(edges, counts, np.bincount(bin_of, confidence, bins)[filled] / counts[filled], accuracy)


_CONFIDENCE = "probability of the predicted class"


def reliability(sides: Mapping[str, Bins], title: str = "Reliability") -> Plot:
    """Reliability diagram (Guo et al. 2017): accuracy against confidence, a colour per run."""
    marks = [
        Line(bins.confidence, bins.accuracy, series, dots=True, label=name)
        for series, (name, bins) in enumerate(sides.items())
    ]
    return Plot(title, _unit(_CONFIDENCE), _unit("share that is right", 1.02), (_DIAGONAL, *marks))


def confidences(sides: Mapping[str, Bins], title: str = "How sure it is") -> Plot:
    """Histogram of the confidence; of several runs the outlines."""
    marks = [
        Histogram(bins.edges, bins.counts, series, filled=len(sides) == 1)
        for series, bins in enumerate(sides.values())
    ]
    highest = max((float(bins.counts.max()) for bins in sides.values()), default=1.0)
    return Plot(title, _unit(_CONFIDENCE), Axis("rows", 0.0, 1.05 * highest or 1.0, integer=True), tuple(marks))
