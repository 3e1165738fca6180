"""One temperature after averaging: how sure the ensemble may say it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ensemble.combine.rules import Wide, normalised
from ensemble.metrics import SMALLEST, log_loss
from ensemble.predictions import Floats, Ints

RANGE = (0.05, 20.0)
"""The temperatures that are searched, ends included to seven digits."""

_GOLDEN = (np.sqrt(5.0) - 1) / 2


def heated(probs: Floats, temperature: float) -> Wide:
    """probs (n, k) to the power of 1 / temperature, rows summing to one again. Row by row."""
    logs = np.log(np.maximum(probs.astype(np.float64, order="C"), SMALLEST))
    # the largest entry becomes one, so that no row underflows as a whole
    logs -= logs.max(axis=1, keepdims=True)
    return normalised(np.exp(logs / temperature))


def fit_temperature(probs: Floats, targets: Ints) -> float:
    """The temperature within RANGE of the least log-loss on targets (n,), all known.

    The log-loss has one minimum in 1 / temperature, so a golden-section search on its logarithm finds it.
    """
    logs = np.log(np.maximum(probs.astype(np.float64), SMALLEST))
    logs -= logs.max(axis=1, keepdims=True)
    of_target = logs[np.arange(len(targets)), targets]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return log_loss(np.log(np.exp(logs * scale).sum(axis=1)) - of_target * scale, targets)

    return float(np.exp(_golden_section(loss, np.log(RANGE[0]), np.log(RANGE[1]))))


def _golden_section(function: Callable[[float], float], low: float, high: float, steps: int = 40) -> float:
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(steps):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2
