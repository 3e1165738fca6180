"""Figures as PNG: learning curves, confusion matrices, ROC, precision-recall, reliability, image grids.

Each uses its own Figure, as pyplot needs a display. Colours: the colour-blind-safe palette of Okabe & Ito (2008).
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ensemble.core.predictions import Ints, Wide
from ensemble.report.classes import Labelled, confusion
from ensemble.runs.history import Epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
MOST_CLASSES = 40
"""Limit of the classes for which a confusion matrix has room for counts and labels."""
MOST_PANELS = 12
"""Limit of the classes with their own panels of curves; each takes about a second to draw."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure with a constrained layout; width and height in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def plain(name: str) -> str:
    """The name with escaped dollar signs, which matplotlib would read as mathtext."""
    return name.replace("$", r"\$")


def png(figure: Figure, dpi: int = 130) -> bytes:
    """The figure as PNG bytes."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=dpi)
    return image.getvalue()


def curves(histories: Mapping[str, Sequence[Epoch]]) -> bytes:
    """Loss and accuracy over the epochs of all stages: training dashed, validation solid, one colour per run."""
    figure = new_figure(11, 4)
    left, right = figure.subplots(1, 2)
    for number, (name, epochs) in enumerate(histories.items()):
        colour = COLOURS[number % len(COLOURS)]
        draw_epochs(left, epochs, "loss", colour)
        draw_epochs(right, epochs, "accuracy", colour, plain(name))
        for x in stage_ends(epochs):
            for axes in (left, right):
                axes.axvline(x, color=colour, alpha=0.3, linewidth=1)
    left.set(xlabel="epoch", ylabel="loss", title="loss (dashed: training)")
    right.set(xlabel="epoch", ylabel="accuracy", title="accuracy (dashed: training)")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    right.legend(fontsize=8)
    return png(figure)


def draw_epochs(axes: Axes, epochs: Sequence[Epoch], quantity: str, colour: str, label: str | None = None) -> None:
    """Plot a quantity, `loss` or `accuracy`, over the epochs of all stages: training dashed, validation solid."""
    numbers = range(1, len(epochs) + 1)
    axes.plot(numbers, [getattr(epoch, f"train_{quantity}") for epoch in epochs], "--", color=colour)
    points = [(number, getattr(epoch, f"valid_{quantity}")) for number, epoch in zip(numbers, epochs, strict=True)]
    points = [(number, value) for number, value in points if value is not None]
    marker = "o" if len(points) < 3 else None
    axes.plot(
        [number for number, _ in points],
        [value for _, value in points],
        color=colour,
        label=label,
        marker=marker,
    )


def stage_ends(epochs: Sequence[Epoch]) -> list[float]:
    """x-coordinates of the stage boundaries, half-way between two epochs; the first epoch is at 1."""
    return [
        number + 0.5
        for number, (epoch, following) in enumerate(itertools.pairwise(epochs), 1)
        if epoch.stage != following.stage
    ]


def confusions(sides: Mapping[str, Labelled]) -> bytes:
    """A confusion matrix per run: colours are shares of the true class, numbers are counts."""
    k = len(next(iter(sides.values())).classes)
    side = max(3.6, min(9.0, 1.6 + 0.42 * k))
    figure = new_figure(side * len(sides) + 0.6, side + 0.4)
    panels = figure.subplots(1, len(sides), squeeze=False)[0]
    for axes, (name, rows) in zip(panels, sides.items(), strict=True):
        _confusion(axes, name, rows)
    return png(figure)


def _confusion(axes: Axes, name: str, rows: Labelled) -> None:
    counts = confusion(rows)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    k = len(rows.classes)
    if k <= MOST_CLASSES:
        size = 9 if k <= 12 else 6 if k <= 25 else 4
        for true in range(k):
            for predicted in range(k):
                if counts[true, predicted]:
                    colour = "white" if shares[true, predicted] > 0.5 else "black"
                    axes.text(
                        predicted,
                        true,
                        f"{counts[true, predicted]}",
                        ha="center",
                        va="center",
                        fontsize=size,
                        color=colour,
                    )
        axes.set_xticks(range(k), list(map(plain, rows.classes)), rotation=45, ha="right", fontsize=8)
        axes.set_yticks(range(k), list(map(plain, rows.classes)), fontsize=8)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(plain(name), fontsize=9)


def roc_and_precision(sides: Mapping[str, Labelled]) -> bytes:
    """ROC and precision-recall curves per class, one colour per run; with two classes only those of the second.

    Of more than MOST_PANELS classes, those with the highest error rate summed over the runs.
    """
    classes = next(iter(sides.values())).classes
    shown = [1] if len(classes) == 2 else most_mistaken(list(sides.values()))
    columns = min(4, len(shown))
    rows_of_panels = -(-len(shown) // columns)
    figure = new_figure(3.3 * columns + 0.4, 2 * 2.9 * rows_of_panels + 0.4)
    panels = figure.subplots(2 * rows_of_panels, columns, squeeze=False)
    for position, c in enumerate(shown):
        top = panels[2 * (position // columns), position % columns]
        bottom = panels[2 * (position // columns) + 1, position % columns]
        for number, (name, rows) in enumerate(sides.items()):
            positive = rows.targets == c
            if not positive.any() or positive.all():
                continue
            colour = COLOURS[number % len(COLOURS)]
            top.plot(*roc_points(rows, c), color=colour, label=plain(name))
            bottom.plot(*precision_points(rows, c), color=colour, label=plain(name))
            share = positive.mean()
            bottom.axhline(share, color="grey", linestyle=":", linewidth=0.8)
        top.plot([0, 1], [0, 1], ":", color="grey", linewidth=0.8)
        top.set(xlabel="false positives", ylabel="true positives", xlim=(0, 1), ylim=(0, 1.01))
        bottom.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
        top.set_title(f"{plain(classes[c])}: ROC", fontsize=9)
        bottom.set_title(f"{plain(classes[c])}: precision-recall", fontsize=9)
    for unused in panels.ravel()[:]:
        if not unused.has_data():
            unused.set_axis_off()
    # a class has no curve if none, or all, of the rows belong to it
    if panels[0, 0].get_legend_handles_labels()[0]:
        panels[0, 0].legend(fontsize=7, loc="lower right")
    if len(classes) > max(2, len(shown)):
        figure.suptitle(f"the {len(shown)} of {len(classes)} classes that are most often mistaken", fontsize=9)
    return png(figure)


def most_mistaken(sides: Sequence[Labelled]) -> list[int]:
    """At most MOST_PANELS class indices, ascending: the classes with the highest error rate."""
    k = len(sides[0].classes)
    error_rates = np.zeros(k)
    for rows in sides:
        wrong = rows.targets[rows.predicted != rows.targets]
        error_rates += np.bincount(wrong, minlength=k) / np.maximum(np.bincount(rows.targets, minlength=k), 1)
    return sorted(np.argsort(-error_rates, kind="stable")[:MOST_PANELS].tolist())


def reliability(sides: Mapping[str, Labelled], bins: int = 10) -> bytes:
    """Reliability diagram (Guo et al. 2017): accuracy against confidence, and a histogram of the confidence."""
    figure = new_figure(5.6, 5.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    for number, (name, rows) in enumerate(sides.items()):
        binned = reliability_bins(rows, bins)
        colour = COLOURS[number % len(COLOURS)]
        top.plot(binned.confidence, binned.accuracy, "o-", color=colour, label=plain(name), markersize=4)
        bottom.stairs(binned.counts, binned.edges, color=colour)
    top.plot([0, 1], [0, 1], ":", color="grey", linewidth=0.8)
    top.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02), title="reliability")
    top.legend(fontsize=8)
    bottom.set(xlabel="probability of the predicted class", ylabel="rows")
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    return png(figure)


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


def roc_points(rows: Labelled, c: int) -> tuple[Wide, Wide]:
    """(false positive rates, true positive rates) of class c against the rest."""
    from sklearn.metrics import roc_curve

    fpr, tpr, _ = roc_curve(rows.targets == c, rows.probs[:, c])
    return fpr, tpr


def precision_points(rows: Labelled, c: int) -> tuple[Wide, Wide]:
    """(recalls, precisions) of class c against the rest."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(rows.targets == c, rows.probs[:, c])
    return recall, precision


def distribution(classes: Sequence[str], before: Sequence[int], after: Sequence[int]) -> bytes:
    """Bar chart per class: its training images (`before`), and the images drawn in one epoch (`after`)."""
    k = len(classes)
    figure = new_figure(max(5.0, 0.45 * k + 2), 3.6)
    axes = figure.subplots()
    positions = np.arange(k)
    axes.bar(positions - 0.2, before, 0.4, color=COLOURS[0], label="images")
    axes.bar(positions + 0.2, after, 0.4, color=COLOURS[1], label="shown in an epoch")
    axes.set_xticks(
        positions,
        list(map(plain, classes)),
        rotation=45 if k > 4 else 0,
        ha="right" if k > 4 else "center",
        fontsize=8,
    )
    axes.set(ylabel="images", title="classes before and after balancing")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3, axis="y")
    return png(figure)


def gallery(pictures: Sequence[tuple[Any, str]], title: str, columns: int = 4) -> bytes:
    """Grid of (image, caption) pairs; images are uint8 (h, w, 3) or PIL."""
    columns = max(1, min(columns, len(pictures)))
    rows = max(1, -(-len(pictures) // columns))
    figure = new_figure(2.5 * columns, 2.9 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, (image, caption) in zip(panels, pictures, strict=False):
        axes.imshow(np.asarray(image))
        axes.set_title(plain(caption), fontsize=7)
    figure.suptitle(plain(title), fontsize=10)
    return png(figure)


def overlaid(pixels: Any, heat: Any) -> Image.Image:
    """An image, uint8 (h, w, 3), blended with a heat map, float (h, w) in [0, 1]; blue is 0, red is 1."""
    from matplotlib import colormaps

    colours = colormaps["jet"](np.asarray(heat))[..., :3]
    mixed = 0.55 * np.asarray(pixels) / 255 + 0.45 * colours
    return Image.fromarray((mixed * 255).round().astype(np.uint8))


def sheet(rows: Mapping[str, Sequence[Any]], title: str) -> bytes:
    """Rows of images, uint8 (h, w, 3) or PIL, each row labelled with its name on the left."""

    columns = max(map(len, rows.values()))
    figure = new_figure(1.5 + 1.35 * columns, 1.4 * len(rows) + 0.5)
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, images) in zip(panels, rows.items(), strict=True):
        for axes, image in zip(line, images, strict=False):
            axes.imshow(np.asarray(image))
        for axes in line:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        line[0].set_ylabel(plain(name), rotation=0, ha="right", va="center", fontsize=9)
    figure.suptitle(plain(title), fontsize=10)
    return png(figure)
