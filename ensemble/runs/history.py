"""history.csv of a run, and the warnings derived from it."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

from ensemble.core.errors import DataError
from ensemble.core.table import Table
from ensemble.runs.run import Run


@dataclass(frozen=True)
class Epoch:
    """One row of history.csv. Losses and accuracies are means over the images; None if not evaluated.

    stage, epoch: zero-based.  lr: of the last parameter group at the end of the epoch.  seconds: wall time.
    """

    stage: int
    epoch: int
    train_loss: float
    valid_loss: float | None
    train_accuracy: float
    valid_accuracy: float | None
    lr: float
    seconds: float


def to_csv(rows: Iterable[Epoch]) -> str:
    """The rows as the text of history.csv."""
    return Table([field.name for field in fields(Epoch)], [astuple(row) for row in rows]).csv()


def epoch_from(values: dict[str, Any]) -> Epoch:
    """The Epoch with the plain values stored in a checkpoint."""
    return Epoch(**values)


def history(run: Run) -> list[Epoch]:
    """The epochs of a run; empty without a history.csv, as for an import. Raises DataError for a broken file."""
    path = run.path / "history.csv"
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [_read(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a history as it was written; train the run again") from error


def _read(row: dict[str, str]) -> Epoch:
    def optional(key: str) -> float | None:
        return float(row[key]) if row[key] else None

    return Epoch(
        stage=int(row["stage"]),
        epoch=int(row["epoch"]),
        train_loss=float(row["train_loss"]),
        valid_loss=optional("valid_loss"),
        train_accuracy=float(row["train_accuracy"]),
        valid_accuracy=optional("valid_accuracy"),
        lr=float(row["lr"]),
        seconds=float(row["seconds"]),
    )


MIN_GAIN = 0.05
"""Smallest gain over the majority class, as a share of the largest possible gain, that counts as learning."""


def warnings(rows: Sequence[Epoch], head_stages: Sequence[int], count: int, majority_share: float) -> list[str]:
    """One line for each problem in a member's training, with a suggestion.

    rows: its history.  head_stages: the stages with a frozen body.  count: number of validation rows.
    majority_share: share of the most frequent class among the validation rows.
    """
    evaluation = [row for row in rows if row.valid_accuracy is not None]
    return (
        [*_below_head(evaluation, head_stages, count), *_hardly_learnt(evaluation, count, majority_share)]
        if evaluation
        else []
    )


def _below_head(evaluation: Sequence[Epoch], head_stages: Sequence[int], count: int) -> Iterator[str]:
    last, head_rows = evaluation[-1], [row for row in evaluation if row.stage in head_stages]
    if not head_rows or last.stage in head_stages:
        return
    final, head_accuracy = last.valid_accuracy or 0.0, head_rows[-1].valid_accuracy or 0.0
    if final < head_accuracy - standard_error(head_accuracy, count):
        yield (
            f"it ended at an accuracy of {final:.4f}, below the {head_accuracy:.4f} of its own frozen head: try"
            " a lower --lr, freeze_norms: true, or unfreeze: 10"
        )


def _hardly_learnt(evaluation: Sequence[Epoch], count: int, majority_share: float) -> Iterator[str]:
    final = evaluation[-1].valid_accuracy or 0.0
    if final < majority_share + max(standard_error(majority_share, count), MIN_GAIN * (1 - majority_share)):
        yield (
            f"it has hardly learnt: an accuracy of {final:.4f}, where always saying the most frequent class gives"
            f" {majority_share:.4f}: try more --epochs, another --lr, or `ens check` for the labels"
        )


def standard_error(accuracy: float, count: int) -> float:
    """Standard error of an accuracy measured on `count` rows."""
    return math.sqrt(accuracy * (1 - accuracy) / max(1, count))
