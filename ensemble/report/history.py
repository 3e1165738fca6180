"""history.csv read back, and what a training's curve says."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass

from ensemble.errors import DataError
from ensemble.runs.run import Run

FAST = 0.9
"""Of the best validation accuracy: reached in how many epochs?"""
GAP, RISE = 0.05, 0.05
"""Over-fitting: training accuracy so far above validation's, and validation loss this share above its lowest."""


@dataclass(frozen=True)
class Point:
    """One epoch, counted from 1 over all stages; None where it was not measured."""

    epoch: int
    stage: int
    train_loss: float
    valid_loss: float | None
    train_accuracy: float
    valid_accuracy: float | None
    lr: float
    seconds: float


def history(run: Run) -> list[Point]:
    """The epochs of a run; empty where it was not trained here. Raises DataError for a broken file."""
    path = run.path / "history.csv"
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [_point(number, row) for number, row in enumerate(csv.DictReader(file), 1)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a history as it was written; train the run again") from error


def _point(number: int, row: dict[str, str]) -> Point:
    def known(key: str) -> float | None:
        return float(row[key]) if row[key] else None

    return Point(
        number,
        int(row["stage"]),
        float(row["train_loss"]),
        known("valid_loss"),
        float(row["train_accuracy"]),
        known("valid_accuracy"),
        float(row["lr"]),
        float(row["seconds"]),
    )


@dataclass(frozen=True)
class Course:
    """What a training came to.

    best_train, best_valid: the highest accuracies of any epoch.  gap: the last epoch's training accuracy less its
    validation accuracy, both as they were measured (augmentation and dropout hold training back).
    overfits: whether the gap is above 5 points and the validation loss 5 % above its lowest.
    fast: the first epoch with 90 % of the best validation accuracy.
    """

    epochs: int
    best_train: float
    best_valid: float | None
    lowest_train_loss: float
    gap: float | None
    overfits: bool | None
    fast: int | None


def course(points: Sequence[Point]) -> Course | None:
    """None without epochs."""
    if not points:
        return None
    judged = [point for point in points if point.valid_accuracy is not None and point.valid_loss is not None]
    best_valid = max((_known(point.valid_accuracy) for point in judged), default=None)
    gap = overfits = fast = None
    if judged and best_valid is not None:
        last = judged[-1]
        gap = last.train_accuracy - _known(last.valid_accuracy)
        lowest = min(_known(point.valid_loss) for point in judged)
        overfits = gap > GAP and _known(last.valid_loss) > (1 + RISE) * lowest
        fast = next(point.epoch for point in judged if _known(point.valid_accuracy) >= FAST * best_valid)
    return Course(
        len(points),
        max(point.train_accuracy for point in points),
        best_valid,
        min(point.train_loss for point in points),
        gap,
        overfits,
        fast,
    )


def _known(value: float | None) -> float:
    assert value is not None
    return value
