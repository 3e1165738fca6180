"""history.csv: what each epoch of a training did, written and read back."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from ensemble.errors import DataError
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
