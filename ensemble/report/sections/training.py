"""How the networks were trained: learning curves and the curves of the learning-rate finder."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from ensemble.core.errors import DataError
from ensemble.report.figures import draw_epochs, stage_ends
from ensemble.report.sections.scope import Subject, parents
from ensemble.report.svg import SERIES, SOFT, plot
from ensemble.runs.history import Epoch, history
from ensemble.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes


FAST = 0.9
"""Of the best validation accuracy: reached in how many epochs?"""
GAP, RISE = 0.05, 0.05
"""Over-fitting: training accuracy so far above validation's, and validation loss this share above its lowest."""


@dataclass(frozen=True)
class Course:
    """What a training came to.

    best_train, best_valid: the highest accuracies of any epoch.  gap: the last epoch's training accuracy less its
    validation accuracy, both as they were measured (augmentation and dropout hold training back).
    overfits: whether the gap is above 5 ones and the validation loss 5 % above its lowest.
    fast: the first epoch, counted from 1, with 90 % of the best validation accuracy.
    """

    epochs: int
    best_train: float
    best_valid: float | None
    lowest_train_loss: float
    gap: float | None
    overfits: bool | None
    fast: int | None


def course(epochs: Sequence[Epoch]) -> Course | None:
    """None without epochs."""
    if not epochs:
        return None
    evaluation = [one for one in epochs if one.valid_accuracy is not None and one.valid_loss is not None]
    best_valid = max((_known(one.valid_accuracy) for one in evaluation), default=None)
    gap = overfits = fast = None
    if evaluation and best_valid is not None:
        last = evaluation[-1]
        gap = last.train_accuracy - _known(last.valid_accuracy)
        lowest = min(_known(one.valid_loss) for one in evaluation)
        overfits = gap > GAP and _known(last.valid_loss) > (1 + RISE) * lowest
        fast = next(
            number
            for number, one in enumerate(epochs, 1)
            if one.valid_accuracy is not None and one.valid_accuracy >= FAST * best_valid
        )
    return Course(
        len(epochs),
        max(one.train_accuracy for one in epochs),
        best_valid,
        min(one.train_loss for one in epochs),
        gap,
        overfits,
        fast,
    )


def _known(value: float | None) -> float:
    assert value is not None
    return value


MOST = 12
"""Members whose curves are drawn."""

Curve = tuple[list[float], list[float]]


@dataclass(frozen=True)
class FinderCurve:
    """One stage of a network in the finder: rates and smoothed losses; the rate taken, where recorded."""

    run: str
    stage: int
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    taken: float | None


@dataclass(frozen=True)
class NetworkCurves:
    """A network in the table. rates: what the stages were trained with."""

    id: str
    course: Course
    rates: tuple[float, ...]


@dataclass(frozen=True)
class TrainingCurves:
    """A member's training. networks: the run itself, or the folds, in the order of their colours."""

    id: str
    networks: tuple[NetworkCurves, ...]
    pictures: tuple[Markup, ...]


def trainings(subject: Subject) -> tuple[list[TrainingCurves], int]:
    """Of each member that was trained here, at most `MOST`, and how many there are. Raises DataError."""
    found = []
    for run in subject.members:
        networks = parents(run) if run.kind == "folds" else [run]
        histories = {one.id: points for one in networks if (points := history(one))}
        if histories:
            found.append((run, histories, networks))
    drawn = [_trained(f"training{number}", *entry) for number, entry in enumerate(found[:MOST])]
    return drawn, len(found)


def _trained(
    key: str, run: Run, histories: Mapping[str, Sequence[Epoch]], networks: Sequence[Run]
) -> TrainingCurves:
    by_id = {one.id: one for one in networks}
    told = [
        NetworkCurves(name, one, tuple((by_id[name].facts.get("rates") or {}).values()))
        for name, points in histories.items()
        if (one := course(points))
    ]
    pictures = [_curves(f"{key}-{what}", run.id, what, histories) for what in ("loss", "accuracy")]
    looked = [curve for one in networks for curve in finders(one)]
    if looked:
        pictures.append(_finder(f"{key}-rates", run.id, looked))
    return TrainingCurves(run.id, tuple(told), tuple(pictures))


def _curves(key: str, name: str, what: str, histories: Mapping[str, Sequence[Epoch]]) -> Markup:
    from matplotlib.ticker import MaxNLocator

    def draw(axes: Axes) -> None:
        for number, epochs in enumerate(histories.values()):
            draw_epochs(axes, epochs, what, SERIES[number % len(SERIES)])
        for place in stage_ends(next(iter(histories.values()))):
            axes.axvline(place, color=SOFT, linestyle=":", linewidth=1)
        axes.set(xlabel="epoch", title=f"{what} (dashed: training)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return plot(key, f"{what} of {name} over the epochs. {_ends(what, histories)}", draw)


def _ends(what: str, histories: Mapping[str, Sequence[Epoch]]) -> str:
    said = []
    for name, epochs in histories.items():
        first, last = epochs[0], epochs[-1]
        training = f"training {getattr(first, f'train_{what}'):.4f} to {getattr(last, f'train_{what}'):.4f}"
        evaluation = [value for one in epochs if (value := getattr(one, f"valid_{what}")) is not None]
        validation = f", validation {evaluation[0]:.4f} to {evaluation[-1]:.4f}" if evaluation else ""
        said.append(f"{name}: {training}{validation}")
    return "; ".join(said) + "."


def finders(run: Run) -> list[FinderCurve]:
    """The finder's curves in lr_find.csv; none where the rates were given. Raises DataError for a broken file."""
    path = run.path / "lr_find.csv"
    if not path.is_file():
        return []
    rates = run.facts.get("rates") or {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(int(row["stage"]), float(row["lr"]), float(row["loss"])) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a finder's curve as it was written; train the run again") from error
    return [
        FinderCurve(
            run.id,
            stage,
            tuple(rate for at, rate, _ in rows if at == stage),
            tuple(loss for at, _, loss in rows if at == stage),
            rates.get(str(stage)),
        )
        for stage in sorted({at for at, _, _ in rows})
    ]


def _finder(key: str, name: str, looked: Sequence[FinderCurve]) -> Markup:
    def draw(axes: Axes) -> None:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

        for number, one in enumerate(looked):
            colour = SERIES[number % len(SERIES)]
            axes.plot(one.rates, one.losses, color=colour)
            if one.taken:
                axes.axvline(one.taken, color=colour, linestyle=":", linewidth=1)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(100))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        low = min(min(one.losses) for one in looked)
        start = max(one.losses[0] for one in looked)
        axes.set_ylim(low - 0.05 * (start - low), start + (start - low))
        axes.set(xlabel="learning rate", title="finder's loss (dotted: rate taken)")

    taken = ", ".join(f"{one.taken:.2e}" for one in looked if one.taken)
    return plot(key, f"Learning-rate finder of {name}. Rates taken: {taken or 'not recorded'}.", draw)
