"""Metrics of the most probable class, told by counts that add up over rows, for many labellings at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ensemble.combine.arrays import Wide
from ensemble.predictions import Ints

Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Counting:
    """tally: labels (j, r), targets (r,), k -> counts (j, q), which add up over rows.

    score: counts (j, q), rows of each class (k,) -> float64 (j,).
    hits_only: whether one wrong label is as good as another.
    """

    tally: Callable[[Labels, Labels, int], Ints]
    score: Callable[[Ints, Ints], Wide]
    hits_only: bool


def _right(labels: Labels, targets: Labels, k: int) -> Ints:
    hits: Ints = np.count_nonzero(labels == targets, axis=1)[:, None]
    return hits


def _right_of_each(labels: Labels, targets: Labels, k: int) -> Ints:
    right = labels == targets
    keys = np.broadcast_to(targets, labels.shape)[right]
    keys = keys + np.repeat(k * np.arange(len(labels)), np.count_nonzero(right, axis=1))
    return np.bincount(keys, minlength=len(labels) * k).reshape(-1, k)


def _right_and_claimed(labels: Labels, targets: Labels, k: int) -> Ints:
    keys = labels + k * np.arange(len(labels))[:, None]
    claimed = np.bincount(keys.ravel(), minlength=len(labels) * k).reshape(-1, k)
    return np.concatenate((_right_of_each(labels, targets, k), claimed), axis=1)


def _accuracy(hits: Ints, actual: Ints) -> Wide:
    return hits[:, 0] / np.float64(actual.sum())


def _balanced_accuracy(hits: Ints, actual: Ints) -> Wide:
    there = actual > 0
    mean: Wide = np.mean(hits[:, there] / actual[there], axis=1)
    return mean


def _macro_f1(counts: Ints, actual: Ints) -> Wide:
    hits, claimed = np.split(counts, 2, axis=1)
    there = actual > 0
    mean: Wide = np.mean(2 * hits[:, there] / (actual + claimed)[:, there], axis=1)
    return mean


def _kappa(counts: Ints, actual: Ints) -> Wide:
    hits, claimed = np.split(counts, 2, axis=1)
    n, chance = int(actual.sum()), claimed @ actual
    # where chance is sure to agree, all rows do: 0 over 1
    above: Wide = (n * hits.sum(axis=1) - chance) / np.maximum(n**2 - chance, 1)
    return above


countings = {
    "accuracy": Counting(_right, _accuracy, hits_only=True),
    "balanced_accuracy": Counting(_right_of_each, _balanced_accuracy, hits_only=True),
    "macro_f1": Counting(_right_and_claimed, _macro_f1, hits_only=False),
    "kappa": Counting(_right_and_claimed, _kappa, hits_only=False),
}
