"""Metrics of the most probable class: the values are scikit-learn's."""

from __future__ import annotations

import numpy as np

from ensemble.metrics.base import Rows, Wide, metric
from ensemble.predictions import Floats, Ints


def labels(probs: Floats) -> Ints:
    """The most probable class of each row, int64 (n,); ties go to the lower class index.

    float32 rounds away the last digits of a sum, so that what is a tie on paper is one here too.
    """
    best: Ints = np.argmax(probs, axis=-1).astype(np.int64)
    return best


def _predicted(probs: Floats, targets: Ints) -> Rows:
    return labels(probs)


def _right(predicted: Rows, targets: Ints) -> Wide:
    right: Wide = (predicted == targets).astype(np.float64)
    return right


@metric("accuracy", of=_predicted, rows=_right)
def accuracy(predicted: Rows, targets: Ints) -> float:
    """The share of rows whose most probable class is the target: sklearn's accuracy_score."""
    return float(np.count_nonzero(predicted == targets) / len(targets))


@metric("balanced_accuracy", of=_predicted)
def balanced_accuracy(predicted: Rows, targets: Ints) -> float:
    """The mean recall of the classes that occur in the targets: sklearn's balanced_accuracy_score."""
    hits, actual, _ = _counts(predicted, targets)
    present = actual > 0
    return float(np.mean(hits[present] / actual[present]))


@metric("macro_f1", of=_predicted)
def macro_f1(predicted: Rows, targets: Ints) -> float:
    """The mean F1 of the classes that occur in the targets: sklearn's f1_score with these as `labels`."""
    hits, actual, claimed = _counts(predicted, targets)
    present = actual > 0
    return float(np.mean(2 * hits[present] / (actual + claimed)[present]))


@metric("kappa", of=_predicted, least=-1.0)
def kappa(predicted: Rows, targets: Ints) -> float:
    """Cohen's kappa (1960), unweighted, -1 to 1: sklearn's cohen_kappa_score.

    Where all targets and all predictions are one class, 0/0, it is 0: so it is for any other predictions of
    rows of one class, since chance alone would agree as often.
    """
    hits, actual, claimed = _counts(predicted, targets)
    pairs, agreed, chance = len(targets) ** 2, len(targets) * int(hits.sum()), int(actual @ claimed)
    return (agreed - chance) / (pairs - chance) if chance < pairs else 0.0


def _counts(predicted: Rows, targets: Ints) -> tuple[Rows, Rows, Rows]:
    """For each class: rows predicted right, rows of it, rows predicted as it."""
    k = int(max(predicted.max(), targets.max())) + 1
    right = targets[predicted == targets]
    return tuple(np.bincount(rows, minlength=k) for rows in (right, targets, predicted))  # type: ignore[return-value]
