"""How good predictions are: pure functions of probabilities (n, k) and targets (n,).

A metric is one decorated function. Rows without a target (-1) are the caller's to leave out; classes that no
target names are left out here, so that no metric fails on a small or lopsided set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ensemble.predictions import Floats, Ints
from ensemble.registry import Registry

Rows = npt.NDArray[Any]
Summary = Callable[[Rows, Ints], float]
View = Callable[[Floats, Ints], Rows]

SMALLEST = 1e-15
"""A probability below this counts as this much in a logarithm."""


@dataclass(frozen=True)
class Metric:
    """A score and its direction.

    of: what it looks at in (n, k) probabilities, one entry a row; computed once, however often rows are
    drawn.
    summary: that and targets (n,) -> a float.
    """

    name: str
    higher: bool
    summary: Summary
    of: View

    def __call__(self, probs: Floats, targets: Ints) -> float:
        """The score of `probs` (n, k) on `targets` (n,), n at least 1, every target known."""
        return float(self.summary(self.of(probs, targets), targets))

    def better(self, one: float, other: float) -> bool:
        """Whether the score `one` is better than `other`."""
        return one > other if self.higher else one < other


metrics: Registry[Metric] = Registry("metric")


def _probabilities(probs: Floats, targets: Ints) -> Rows:
    return probs


def metric(name: str, *, higher: bool = True, of: View = _probabilities) -> Callable[[Summary], Summary]:
    """A decorator that files a function (probs (n, k), targets (n,)) -> float under `name`.

    higher: whether more is better.  of: what to hand over in place of the probabilities, one entry a row.
    """

    def add(summary: Summary) -> Summary:
        metrics.register(name)(Metric(name, higher, summary, of))
        return summary

    return add


def score(probs: Floats, targets: Ints) -> dict[str, float]:
    """Every metric of `probs` (n, k) on `targets` (n,), all known; nothing where n is 0."""
    if not len(targets):
        return {}
    return {name: metrics.get(name)(probs, targets) for name in metrics.names()}


def labels(probs: Floats) -> Ints:
    """The most probable class of each row, int64 (n,); ties go to the lower class index.

    float32 rounds away the last digits of a sum, so that what is a tie on paper is one here too.
    """
    best: Ints = np.argmax(probs, axis=-1).astype(np.int64)
    return best


def _predicted(probs: Floats, targets: Ints) -> Rows:
    return labels(probs)


def _surprise(probs: Floats, targets: Ints) -> Rows:
    likelihood = probs[np.arange(len(targets)), targets].astype(np.float64)
    return -np.log(np.maximum(likelihood, SMALLEST))


def _squared_error(probs: Floats, targets: Ints) -> Rows:
    wide = probs.astype(np.float64)
    hit = wide[np.arange(len(targets)), targets]
    squares: Rows = np.square(wide).sum(axis=1)
    return squares - 2 * hit + 1


@metric("accuracy", of=_predicted)
def accuracy(predicted: Rows, targets: Ints) -> float:
    """The share of rows whose most probable class is the target."""
    return float(np.count_nonzero(predicted == targets) / len(targets))


@metric("balanced_accuracy", of=_predicted)
def balanced_accuracy(predicted: Rows, targets: Ints) -> float:
    """The mean of the recalls of the classes that occur in the targets."""
    hits, actual, _ = _counts(predicted, targets)
    present = actual > 0
    return float(np.mean(hits[present] / actual[present]))


@metric("macro_f1", of=_predicted)
def macro_f1(predicted: Rows, targets: Ints) -> float:
    """The mean F1 of the classes that occur in the targets."""
    hits, actual, claimed = _counts(predicted, targets)
    present = actual > 0
    return float(np.mean(2 * hits[present] / (actual + claimed)[present]))


@metric("log_loss", higher=False, of=_surprise)
def log_loss(surprise: Rows, targets: Ints) -> float:
    """The mean of -log(probability of the target), probabilities not below 1e-15."""
    return float(np.mean(surprise))


@metric("brier", higher=False, of=_squared_error)
def brier(error: Rows, targets: Ints) -> float:
    """The mean over rows of the squared distance to the target's one-hot row; 0 to 2."""
    return float(np.mean(error))


def _counts(predicted: Rows, targets: Ints) -> tuple[Rows, Rows, Rows]:
    """For each class: rows predicted right, rows of it, rows predicted as it."""
    k = int(max(predicted.max(), targets.max())) + 1
    right = targets[predicted == targets]
    return tuple(np.bincount(rows, minlength=k) for rows in (right, targets, predicted))  # type: ignore[return-value]
