"""Figures as PNG: plots, confusion matrices, bar charts, image grids.

Each uses its own Figure, as pyplot needs a display. Colours: the colour-blind-safe palette of Okabe & Ito (2008).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ensemble.report.classes import Labelled, confusion
from ensemble.report.plot import (
    ClassSeries,
    Line,
    Plot,
    RangeTest,
    confidences,
    learning_curve,
    precision_recall,
    rate_curve,
    reliability_bins,
    roc,
)
from ensemble.report.plot import reliability as reliability_diagram
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


_STYLES = ("-", "--", "-.", ":")
"""Line styles of matplotlib, in the order of `plot.DASHES`."""


def _colour(series: int | None) -> str:
    return "grey" if series is None else COLOURS[series % len(COLOURS)]


def draw(axes: Axes, plot: Plot, title_size: float = 9) -> None:
    """Draw a plot into empty axes. title_size: in points."""
    for mark in plot.marks:
        label = plain(mark.label) if isinstance(mark, Line) and mark.label else None
        if isinstance(mark, Line):
            style, marker = _STYLES[mark.dash], "o" if mark.dots else None
            axes.plot(
                mark.x, mark.y, style, color=_colour(mark.colour), linewidth=mark.width, marker=marker,
                markersize=4, label=label,
            )  # fmt: skip
        else:
            axes.stairs(mark.counts, mark.edges, color=_colour(mark.colour), fill=mark.filled)
    for guide in plot.guides:
        axes.axvline(guide.x, color=_colour(guide.colour), linestyle=":", linewidth=1.5, label=guide.label)
    axes.set(xscale="log" if plot.x.log else "linear")
    for axis, set_ticks, set_limits, set_label in (
        (plot.x, axes.set_xticks, axes.set_xlim, axes.set_xlabel),
        (plot.y, axes.set_yticks, axes.set_ylim, axes.set_ylabel),
    ):
        ticks = axis.ticks()
        set_ticks([value for value, _ in ticks], [text for _, text in ticks])
        set_limits(axis.low, axis.high)
        set_label(axis.label)
    axes.minorticks_off()
    axes.set_title(plain(plot.title), fontsize=title_size)
    axes.set_axisbelow(True)
    axes.grid(alpha=0.3)


def curves(histories: Mapping[str, Sequence[Epoch]]) -> bytes:
    """Loss and accuracy over the epochs of all stages, one colour per run."""
    figure = new_figure(11, 4)
    left, right = figure.subplots(1, 2)
    draw(left, learning_curve(histories, "loss"), 11)
    draw(right, learning_curve(histories, "accuracy"), 11)
    right.legend(fontsize=8)
    return png(figure)


def rates(curve: RangeTest, title: str) -> bytes:
    """The loss over the learning rate, with the suggested rate."""
    figure = new_figure(7, 4.5)
    axes = figure.subplots()
    draw(axes, rate_curve([curve], title, lambda rate: f"suggestion {rate:.2e}"), 11)
    axes.legend()
    return png(figure, dpi=120)


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
    lines = -(-len(shown) // columns)
    figure = new_figure(3.3 * columns + 0.4, 2 * 2.9 * lines + 0.4)
    panels = figure.subplots(2 * lines, columns, squeeze=False)
    for axes in panels.ravel()[:]:
        axes.set_axis_off()
    for position, c in enumerate(shown):
        line, column = 2 * (position // columns), position % columns
        of_runs = [ClassSeries(rows, c, series, label=name) for series, (name, rows) in enumerate(sides.items())]
        # a class has no curve if none, or all, of the rows belong to it
        known = [entry for entry in of_runs if 0 < entry.share < 1]
        for axes, plot in (
            (panels[line, column], roc(known, f"{classes[c]}: ROC")),
            (panels[line + 1, column], precision_recall(known, f"{classes[c]}: precision-recall")),
        ):
            axes.set_axis_on()
            draw(axes, plot)
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


def reliability(sides: Mapping[str, Labelled]) -> bytes:
    """Reliability diagram, and below it a histogram of the confidence, one colour per run."""
    figure = new_figure(5.6, 5.6)
    top, bottom = figure.subplots(2, 1, height_ratios=[3, 1])
    bins = {name: reliability_bins(rows) for name, rows in sides.items()}
    draw(top, reliability_diagram(bins), 11)
    top.set_xlabel("")  # that of the plot below
    draw(bottom, confidences(bins, ""))
    top.legend(fontsize=8)
    return png(figure)


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
