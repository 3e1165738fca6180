"""history.csv, and the warnings that it gives reason for."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from ensemble.core.errors import DataError
from ensemble.runs.run import Run


@dataclass(frozen=True)
class Epoch:
    """One row of history.csv. Losses and accuracies are means over the images; None where nothing was measured.

    stage and epoch count from 0.  lr: the last group's rate at the epoch's end.  seconds: wall time.
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
    """history.csv as text."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [field.name for field in fields(Epoch)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in asdict(row).items()} for row in rows)
    return out.getvalue()


def epoch_from(values: dict[str, Any]) -> Epoch:
    """An Epoch from the plain values of a checkpoint."""
    return Epoch(**values)


def history(run: Run) -> list[Epoch]:
    """The epochs of a run; empty where it was not trained here. Raises DataError for a broken file."""
    path = run.path / "history.csv"
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [_read(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a history as it was written; train the run again") from error


def _read(row: dict[str, str]) -> Epoch:
    def known(key: str) -> float | None:
        return float(row[key]) if row[key] else None

    return Epoch(
        stage=int(row["stage"]),
        epoch=int(row["epoch"]),
        train_loss=float(row["train_loss"]),
        valid_loss=known("valid_loss"),
        train_accuracy=float(row["train_accuracy"]),
        valid_accuracy=known("valid_accuracy"),
        lr=float(row["lr"]),
        seconds=float(row["seconds"]),
    )


BARELY = 0.05
"""Of the way from the most frequent class's share to every row: less has hardly been learnt."""


def warnings(rows: Sequence[Epoch], head_stages: Sequence[int], count: int, largest: float) -> list[str]:
    """One line for each thing that is wrong with a member, with what to try.

    rows: its history.  head_stages: the stages in which the head trained alone.  count: of validation rows.
    largest: the share of the most frequent class among the validation rows.
    """
    evaluation = [row for row in rows if row.valid_accuracy is not None]
    return (
        [*_below_head(evaluation, head_stages, count), *_hardly_learnt(evaluation, count, largest)]
        if evaluation
        else []
    )


def _below_head(evaluation: Sequence[Epoch], head_stages: Sequence[int], count: int) -> Iterator[str]:
    last, heads = evaluation[-1], [row for row in evaluation if row.stage in head_stages]
    if not heads or last.stage in head_stages:
        return
    ended, head = last.valid_accuracy or 0.0, heads[-1].valid_accuracy or 0.0
    if ended < head - noise(head, count):
        yield (
            f"it ended at an accuracy of {ended:.4f}, below the {head:.4f} of its own frozen head: try a lower"
            " --lr, freeze_norms: true, or unfreeze: 10"
        )


def _hardly_learnt(evaluation: Sequence[Epoch], count: int, largest: float) -> Iterator[str]:
    ended = evaluation[-1].valid_accuracy or 0.0
    if ended < largest + max(noise(largest, count), BARELY * (1 - largest)):
        yield (
            f"it has hardly learnt: an accuracy of {ended:.4f}, where always saying the most frequent class gives"
            f" {largest:.4f}: try more --epochs, another --lr, or `ens check` for the labels"
        )


def noise(accuracy: float, count: int) -> float:
    """The standard error of an accuracy on so many rows."""
    return math.sqrt(accuracy * (1 - accuracy) / max(1, count))
