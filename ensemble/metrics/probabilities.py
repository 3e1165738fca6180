"""Metrics of how sure a prediction is: `log_loss`, `brier` and `ece`, less is better."""

from __future__ import annotations

import numpy as np

from ensemble.metrics.base import Rows, Wide, metric
from ensemble.metrics.decisions import labels
from ensemble.predictions import Floats, Ints

SMALLEST = 1e-15
"""A probability below this counts as this much in a logarithm."""

BINS = 15
"""Bins of `ece`."""


def _surprise(probs: Floats, targets: Ints) -> Rows:
    likelihood = probs[np.arange(len(targets)), targets].astype(np.float64)
    return -np.log(np.maximum(likelihood, SMALLEST))


def _squared_error(probs: Floats, targets: Ints) -> Rows:
    wide = probs.astype(np.float64)
    hit = wide[np.arange(len(targets)), targets]
    squares: Rows = np.square(wide).sum(axis=1)
    return squares - 2 * hit + 1


def _bin_and_gap(probs: Floats, targets: Ints) -> Rows:
    confidence = probs.max(axis=1).astype(np.float64)
    bins = np.searchsorted(np.arange(1, BINS) / BINS, confidence)
    return np.column_stack((bins, (labels(probs) == targets) - confidence))


def _as_they_are(values: Rows, targets: Ints) -> Wide:
    return values


@metric("log_loss", higher=False, of=_surprise, rows=_as_they_are)
def log_loss(surprise: Rows, targets: Ints) -> float:
    """The mean of -ln(probability of the target), probabilities not below 1e-15.

    sklearn's log_loss of float64 probabilities, which clips at 2.2e-16 instead.
    """
    return float(np.mean(surprise))


@metric("brier", higher=False, of=_squared_error, rows=_as_they_are, most=2.0)
def brier(error: Rows, targets: Ints) -> float:
    """The mean over rows of the squared distance to the target's one-hot row, 0 to 2 (Brier 1950).

    sklearn's brier_score_loss with `scale_by_half=False`.
    """
    return float(np.mean(error))


@metric("ece", higher=False, of=_bin_and_gap, most=1.0)
def ece(bin_and_gap: Rows, targets: Ints) -> float:
    """Expected calibration error of the most probable class, 0 to 1 (Guo et al. 2017, equation 3).

    15 bins of equal width, the upper end included; |accuracy - mean confidence| of each, weighted by its rows.
    """
    gaps = np.bincount(bin_and_gap[:, 0].astype(np.int64), weights=bin_and_gap[:, 1])
    return float(np.abs(gaps).sum() / len(targets))
