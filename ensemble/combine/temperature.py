"""One temperature after averaging (Rahaman and Thiery 2021): how sure the ensemble may say it is."""

from __future__ import annotations

import numpy as np

from ensemble.combine.arrays import Wide, normalised
from ensemble.metrics import SMALLEST
from ensemble.predictions import Floats, Ints

RANGE = (0.05, 20.0)
"""The temperatures that are searched, ends included."""

_STEPS = 50


def heated(probs: Floats, temperature: float) -> Wide:
    """probs (n, k) to the power of 1 / temperature, rows summing to one again. Row by row."""
    logs = np.log(np.maximum(probs.astype(np.float64, order="C"), SMALLEST))
    # the largest entry becomes one, so that no row underflows as a whole
    logs -= logs.max(axis=1, keepdims=True)
    return normalised(np.exp(logs / temperature))


def likelihoods(probs: Floats, targets: Ints, temperature: float) -> Wide:
    """`heated` probabilities of the targets alone, float64 (n,), to float32's precision."""
    # classes first, as sums over long rows are quick
    logs = np.log(np.maximum(np.ascontiguousarray(probs.T), np.float32(SMALLEST))) * np.float32(1 / temperature)
    logs -= logs.max(axis=0)
    of_target = logs[targets, np.arange(len(targets))]
    shares: Wide = np.exp(of_target.astype(np.float64)) / np.exp(logs, out=logs).sum(axis=0)
    return shares


def fit_temperature(probs: Floats, targets: Ints) -> float:
    """The temperature within RANGE of the least log-loss on targets (n,), all known.

    The log-loss is convex in 1 / temperature: Newton's steps, halved into the bracket where they leave it.
    """
    logs = np.log(np.maximum(np.ascontiguousarray(probs.T, dtype=np.float64), SMALLEST))
    logs -= logs.max(axis=0)
    of_target = float(np.mean(logs[targets, np.arange(len(targets))]))
    low, high = 1 / RANGE[1], 1 / RANGE[0]
    inverse = 1.0
    for _ in range(_STEPS):
        slope, curve = _derivatives(logs, inverse)
        slope -= of_target
        if slope == 0:  # also where every row is flat, and no temperature changes anything
            break
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        step = inverse - slope / curve if curve > 0 else -1.0
        # an end of the range is reached by going there, not by halving for ever
        after = min(max(step, 1 / RANGE[1]), 1 / RANGE[0]) if curve > 0 else (low + high) / 2
        if not low <= after <= high:
            after = (low + high) / 2
        if abs(after - inverse) <= 1e-10 * inverse:
            break
        inverse = after
    return float(1 / inverse)


def _derivatives(logs: Wide, inverse: float) -> tuple[float, float]:
    """The first derivative of mean(log(sum(exp(inverse * logs)))) for logs (k, n), and the second."""
    likely = np.exp(inverse * logs)
    sums = likely.sum(axis=0)
    likely *= logs
    means = likely.sum(axis=0) / sums
    likely *= logs
    squares = likely.sum(axis=0) / sums
    return float(np.mean(means)), float(np.mean(squares - means * means))
