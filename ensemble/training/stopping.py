"""Early stopping and the best epoch, as functions of the history alone, so that a resumed run decides the same."""

from __future__ import annotations

from collections.abc import Sequence

from ensemble.runs.history import Epoch


def best_epoch(rows: Sequence[Epoch]) -> int:
    """The position of the row with the lowest validation loss, the earliest of equals; rows of one stage."""
    return min(range(len(rows)), key=lambda i: (_loss(rows[i]), i))


def should_stop(rows: Sequence[Epoch], patience: int | None) -> bool:
    """Whether `patience` epochs have gone by since the lowest validation loss."""
    return patience is not None and bool(rows) and len(rows) - 1 - best_epoch(rows) >= patience


def plateaus(rows: Sequence[Epoch], patience: int) -> int:
    """How often more than `patience` epochs in a row brought no lower validation loss than any before."""
    lowest, waited, found = float("inf"), 0, 0
    for row in rows:
        if _loss(row) < lowest:
            lowest, waited = _loss(row), 0
        else:
            waited += 1
        if waited > patience:
            waited, found = 0, found + 1
    return found


def _loss(row: Epoch) -> float:
    return float("inf") if row.valid_loss is None else row.valid_loss
