"""What the epochs of a training say: how far it came, how fast, and whether it over-fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ensemble.runs.history import Epoch

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
    judged = [one for one in epochs if one.valid_accuracy is not None and one.valid_loss is not None]
    best_valid = max((_known(one.valid_accuracy) for one in judged), default=None)
    gap = overfits = fast = None
    if judged and best_valid is not None:
        last = judged[-1]
        gap = last.train_accuracy - _known(last.valid_accuracy)
        lowest = min(_known(one.valid_loss) for one in judged)
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
