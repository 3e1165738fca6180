"""Pictures as PNG: curves, confusion matrices, ROC, precision-recall, reliability. A Figure of its own each time.

pyplot would want a display; colours are told apart by the colour-blind (Okabe & Ito 2008).
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
"""Beyond this a confusion matrix has no room for numbers."""
MOST_PANELS = 12
"""Classes with curves of their own, each of which takes a second to draw."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def plain(name: str) -> str:
    """A name that matplotlib draws as it is: between two dollars it would read mathematics."""
    return name.replace("$", r"\$")


def png(figure: Figure, dpi: int = 130) -> bytes:
    """The figure's picture."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=dpi)
    return image.getvalue()


def curves(histories: Mapping[str, Sequence[Epoch]]) -> bytes:
    """Loss and accuracy over the epochs of all stages: training dashed, validation solid, a colour for each run."""
    figure = new_figure(11, 4)
    left, right = figure.subplots(1, 2)
    for number, (name, epochs) in enumerate(histories.items()):
        colour = COLOURS[number % len(COLOURS)]
        draw_epochs(left, epochs, "loss", colour)
        draw_epochs(right, epochs, "accuracy", colour, plain(name))
        for place in stage_ends(epochs):
            for axes in (left, right):
                axes.axvline(place, color=colour, alpha=0.3, linewidth=1)
    left.set(xlabel="epoch", ylabel="loss", title="loss (dashed: training)")
    right.set(xlabel="epoch", ylabel="accuracy", title="accuracy (dashed: training)")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    right.legend(fontsize=8)
    return png(figure)


def draw_epochs(axes: Axes, epochs: Sequence[Epoch], what: str, colour: str, label: str | None = None) -> None:
    """`loss` or `accuracy` over the epochs of all stages: training dashed, validation solid."""
    places = range(1, len(epochs) + 1)
    axes.plot(places, [getattr(one, f"train_{what}") for one in epochs], "--", color=colour)
    evaluation = [(place, getattr(one, f"valid_{what}")) for place, one in zip(places, epochs, strict=True)]
    evaluation = [(place, value) for place, value in evaluation if value is not None]
    marker = "o" if len(evaluation) < 3 else None
    axes.plot(
        [place for place, _ in evaluation],
        [value for _, value in evaluation],
        color=colour,
        label=label,
        marker=marker,
    )


def stage_ends(epochs: Sequence[Epoch]) -> list[float]:
    """Places on the axis of epochs, counted from 1, between the last of one stage and the first of the next."""
    return [
        place + 0.5 for place, (one, after) in enumerate(itertools.pairwise(epochs), 1) if one.stage != after.stage
    ]


def confusions(sides: Mapping[str, Labelled]) -> bytes:
    """A confusion matrix for each run, shares of the true class as colour, counts as numbers."""
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
            for said in range(k):
                if counts[true, said]:
                    colour = "white" if shares[true, said] > 0.5 else "black"
                    axes.text(
                        said, true, f"{counts[true, said]}", ha="center", va="center", fontsize=size, color=colour
                    )
        axes.set_xticks(range(k), list(map(plain, rows.classes)), rotation=45, ha="right", fontsize=8)
        axes.set_yticks(range(k), list(map(plain, rows.classes)), fontsize=8)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(plain(name), fontsize=9)


def roc_and_precision(sides: Mapping[str, Labelled]) -> bytes:
    """ROC and precision-recall curves of each class, a colour for each run; for two classes of the second alone.

    Of more than MOST_PANELS classes those that are most often mistaken, by all runs together.
    """
    classes = next(iter(sides.values())).classes
    shown = [1] if len(classes) == 2 else _most_mistaken(list(sides.values()))
    columns = min(4, len(shown))
    rows_of_panels = -(-len(shown) // columns)
    figure = new_figure(3.3 * columns + 0.4, 2 * 2.9 * rows_of_panels + 0.4)
    panels = figure.subplots(2 * rows_of_panels, columns, squeeze=False)
    for place, c in enumerate(shown):
        top = panels[2 * (place // columns), place % columns]
        bottom = panels[2 * (place // columns) + 1, place % columns]
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
    # a class without a row, or without another, has no curve
    if panels[0, 0].get_legend_handles_labels()[0]:
        panels[0, 0].legend(fontsize=7, loc="lower right")
    if len(classes) > max(2, len(shown)):
        figure.suptitle(f"the {len(shown)} of {len(classes)} classes that are most often mistaken", fontsize=9)
    return png(figure)


def _most_mistaken(sides: Sequence[Labelled]) -> list[int]:
    """At most MOST_PANELS classes, in their order: those whose rows are most often wrong."""
    k = len(sides[0].classes)
    missed = np.zeros(k)
    for rows in sides:
        wrong = rows.targets[rows.predicted != rows.targets]
        missed += np.bincount(wrong, minlength=k) / np.maximum(np.bincount(rows.targets, minlength=k), 1)
    return sorted(np.argsort(-missed, kind="stable")[:MOST_PANELS].tolist())


def reliability(sides: Mapping[str, Labelled], bins: int = 10) -> bytes:
    """How often rows are right against how sure they are (Guo et al. 2017), and how many rows are how sure."""
    figure = new_figure(5.6, 5.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    for number, (name, rows) in enumerate(sides.items()):
        found = reliability_bins(rows, bins)
        colour = COLOURS[number % len(COLOURS)]
        top.plot(found.sure, found.right, "o-", color=colour, label=plain(name), markersize=4)
        bottom.stairs(found.counts, found.edges, color=colour)
    top.plot([0, 1], [0, 1], ":", color="grey", linewidth=0.8)
    top.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02), title="reliability")
    top.legend(fontsize=8)
    bottom.set(xlabel="probability of the predicted class", ylabel="rows")
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    return png(figure)


@dataclass(frozen=True)
class Bins:
    """Rows by the probability of their predicted class. edges: (bins + 1,).  counts: (bins,).

    sure, right: of the bins that have rows, their mean probability and the share that is right.
    """

    edges: Wide
    counts: Ints
    sure: Wide
    right: Wide


def reliability_bins(rows: Labelled, bins: int = 10) -> Bins:
    """Bins of equal width, from 0 to 1."""
    sure = rows.probs.max(axis=1)
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.digitize(sure, edges) - 1, 0, bins - 1)
    counts = np.bincount(which, minlength=bins)
    filled = counts > 0
    mean_right = np.bincount(which, rows.predicted == rows.targets, bins)[filled] / counts[filled]
    return Bins(edges, counts, np.bincount(which, sure, bins)[filled] / counts[filled], mean_right)


def roc_points(rows: Labelled, c: int) -> tuple[Wide, Wide]:
    """The false and the true positive rates of class c against the rest."""
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(rows.targets == c, rows.probs[:, c])
    return false, true


def precision_points(rows: Labelled, c: int) -> tuple[Wide, Wide]:
    """The recalls of class c against the rest, and the precision at each."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(rows.targets == c, rows.probs[:, c])
    return recall, precision


def distribution(classes: Sequence[str], before: Sequence[int], after: Sequence[int]) -> bytes:
    """Training images of each class, and how often an epoch shows them."""
    k = len(classes)
    figure = new_figure(max(5.0, 0.45 * k + 2), 3.6)
    axes = figure.subplots()
    places = np.arange(k)
    axes.bar(places - 0.2, before, 0.4, color=COLOURS[0], label="images")
    axes.bar(places + 0.2, after, 0.4, color=COLOURS[1], label="shown in an epoch")
    axes.set_xticks(
        places,
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
    """Images, uint8 (h, w, 3) or PIL, each with its caption."""
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
    """An image, uint8 (h, w, 3), under a map, float (h, w) between 0 and 1: blue where it is 0, red where 1."""
    from matplotlib import colormaps

    colours = colormaps["jet"](np.asarray(heat))[..., :3]
    mixed = 0.55 * np.asarray(pixels) / 255 + 0.45 * colours
    return Image.fromarray((mixed * 255).round().astype(np.uint8))


def sheet(rows: Mapping[str, Sequence[Any]], title: str) -> bytes:
    """Rows of images, uint8 (h, w, 3) or PIL, each row with its name on the left."""
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
