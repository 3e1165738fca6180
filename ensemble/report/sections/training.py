"""Training section: learning curves and curves of the learning-rate finder."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ensemble.core.errors import DataError
from ensemble.report.plot import RangeTest, learning_curve, rate_curve
from ensemble.report.sections.scope import Subject, parents
from ensemble.report.svg import svg
from ensemble.runs.history import Epoch, history
from ensemble.runs.record import Kind
from ensemble.runs.run import Run

TARGET_SHARE = 0.9
"""Share of the best validation accuracy that defines the target of `epochs_to_target`."""
GAP, RISE = 0.05, 0.05
"""Over-fitting: minimal gap between training and validation accuracy, and minimal relative rise of the validation
loss above its minimum."""


@dataclass(frozen=True)
class TrainingSummary:
    """Summary of a training history.

    best_train, best_valid: the highest accuracies of any epoch.  gap: training minus validation accuracy of the
    last epoch, both as measured (augmentation and dropout lower the training accuracy).
    overfits: whether the gap exceeds 5 percentage points and the validation loss its minimum by 5 %.
    epochs_to_target: the first epoch, counted from 1, that reaches 90 % of the best validation accuracy.
    """

    epochs: int
    best_train: float
    best_valid: float | None
    lowest_train_loss: float
    gap: float | None
    overfits: bool | None
    epochs_to_target: int | None


def training_summary(epochs: Sequence[Epoch]) -> TrainingSummary | None:
    """The summary of a history; None without epochs."""
    if not epochs:
        return None
    evaluated = [epoch for epoch in epochs if epoch.valid_accuracy is not None and epoch.valid_loss is not None]
    best_valid = max((_known(epoch.valid_accuracy) for epoch in evaluated), default=None)
    gap = overfits = epochs_to_target = None
    if evaluated and best_valid is not None:
        last = evaluated[-1]
        gap = last.train_accuracy - _known(last.valid_accuracy)
        lowest = min(_known(epoch.valid_loss) for epoch in evaluated)
        overfits = gap > GAP and _known(last.valid_loss) > (1 + RISE) * lowest
        epochs_to_target = next(
            number
            for number, epoch in enumerate(epochs, 1)
            if epoch.valid_accuracy is not None and epoch.valid_accuracy >= TARGET_SHARE * best_valid
        )
    return TrainingSummary(
        len(epochs),
        max(epoch.train_accuracy for epoch in epochs),
        best_valid,
        min(epoch.train_loss for epoch in epochs),
        gap,
        overfits,
        epochs_to_target,
    )


def _known(value: float | None) -> float:
    assert value is not None
    return value


MOST = 12
"""Limit of the members whose curves are drawn."""


@dataclass(frozen=True)
class NetworkCurves:
    """A row of the training table. rates: learning rate of each stage, if recorded."""

    id: str
    summary: TrainingSummary
    rates: tuple[float, ...]


@dataclass(frozen=True)
class TrainingCurves:
    """A member's training. networks: the run itself, or its folds, in colour order.  pictures: SVG plots."""

    id: str
    networks: tuple[NetworkCurves, ...]
    pictures: tuple[Markup, ...]


def trainings(subject: Subject) -> tuple[list[TrainingCurves], int]:
    """(training of at most `MOST` members with a history, number of such members). Raises DataError."""
    trained = []
    for run in subject.members:
        networks = parents(run) if run.kind is Kind.FOLDS else [run]
        histories = {network.id: epochs for network in networks if (epochs := history(network))}
        if histories:
            trained.append((run, histories, networks))
    return [_trained(*entry) for entry in trained[:MOST]], len(trained)


def _trained(run: Run, histories: Mapping[str, Sequence[Epoch]], networks: Sequence[Run]) -> TrainingCurves:
    by_id = {network.id: network for network in networks}
    rows = [
        NetworkCurves(name, summary, tuple(by_id[name].record.rates.values()))
        for name, epochs in histories.items()
        if (summary := training_summary(epochs))
    ]
    pictures = [
        svg(
            learning_curve(histories, quantity),
            f"{quantity} of {run.id} over the epochs. {_ends(quantity, histories)}",
        )
        for quantity in ("loss", "accuracy")
    ]
    if tests := [test for network in networks for test in range_tests(network)]:
        pictures.append(_range_tests(run.id, tests))
    return TrainingCurves(run.id, tuple(rows), tuple(pictures))


def _ends(quantity: str, histories: Mapping[str, Sequence[Epoch]]) -> str:
    """The first and last values of the quantity, `loss` or `accuracy`, of each network."""
    ranges = []
    for name, epochs in histories.items():
        first, last = epochs[0], epochs[-1]
        training = f"training {getattr(first, f'train_{quantity}'):.4f} to {getattr(last, f'train_{quantity}'):.4f}"
        values = [value for epoch in epochs if (value := getattr(epoch, f"valid_{quantity}")) is not None]
        validation = f", validation {values[0]:.4f} to {values[-1]:.4f}" if values else ""
        ranges.append(f"{name}: {training}{validation}")
    return "; ".join(ranges) + "."


def range_tests(run: Run) -> list[RangeTest]:
    """The curves in lr_find.csv; empty if the rates were set in the recipe. Raises DataError for a broken file."""
    path = run.path / "lr_find.csv"
    if not path.is_file():
        return []
    taken = run.record.rates
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(int(row["stage"]), float(row["lr"]), float(row["loss"])) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a finder's curve as it was written; train the run again") from error
    return [
        RangeTest(
            [rate for row_stage, rate, _ in rows if row_stage == stage],
            [loss for row_stage, _, loss in rows if row_stage == stage],
            taken.get(str(stage)),
        )
        for stage in sorted({row_stage for row_stage, _, _ in rows})
    ]


def _range_tests(name: str, tests: Sequence[RangeTest]) -> Markup:
    chosen = ", ".join(f"{test.chosen_rate:.2e}" for test in tests if test.chosen_rate)
    return svg(
        rate_curve(tests, "finder's loss (dotted: rate taken)", lambda _: None),
        f"Learning-rate finder of {name}. Rates taken: {chosen or 'not recorded'}.",
    )
