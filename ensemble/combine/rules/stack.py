"""Stacking: multinomial logistic regression on the members' log-probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ensemble.combine.arrays import MIN_PROBABILITY, sampled, softmax, uniform_weights
from ensemble.combine.rules import Params, rule
from ensemble.core.predictions import Floats, Ints, Wide

SPREAD = 0.15
"""The prior standard deviation of a coefficient, relative to a member's weight in the mean of logits."""

_FEWEST, _CELLS = 2_000, 5_000_000
_STEPS = 60

Narrow = npt.NDArray[np.float32]


def features(member: Floats) -> Narrow:
    """float32 (n, k): log-probabilities of a member, minus their mean in each row."""
    logs: Narrow = np.log(np.maximum(member, np.float32(MIN_PROBABILITY)), dtype=np.float32)
    logs -= np.add.accumulate(logs, axis=1)[:, -1:] / np.float32(logs.shape[1])
    return logs


def regressed(params: Params, j: int, member: Floats) -> Wide:
    """The term of member j in the logits (n, k): its log-probabilities times coefficients (k, k)."""
    rows = features(member).astype(np.float64)
    logits = np.zeros(rows.shape)
    # not a matrix product, whose last digits depend on the number of rows
    for c, coefficients in enumerate(params["coefficients"][j]):
        logits += rows[:, c : c + 1] * coefficients
    return logits


def exponentials(params: Params, total: Wide) -> Wide:
    """The softmax of logits (n, k) plus the bias (k,)."""
    return softmax(total + params["bias"])


def no_weights(params: Params) -> None:
    """None: coefficients are not weights, since they may be negative and belong to pairs of classes."""


def equal_shares(params: Params) -> Wide:
    """1 / m each: without some members the logits of the others are scaled up accordingly."""
    return uniform_weights(len(params["coefficients"]))


def coefficients(m: int, k: int) -> int:
    """The number of coefficients: a matrix (k, k) per member."""
    return m * k * k


@rule(
    "stack",
    complexity=8,
    term=regressed,
    finish=exponentials,
    weights=no_weights,
    shares=equal_shares,
    coefficients=coefficients,
    graph="ensemble.export.rules:REGRESSION",
)
def stack(probs: Floats, targets: Ints) -> Params:
    """Multinomial logistic regression on log-probabilities (Wolpert 1992) with a strong L2 penalty.

    The penalty shrinks the coefficients to the mean of logits instead of 0, so that few rows change a good rule
    little. If n m k is above 5 million, a random sample of the rows is used.
    """
    m, n, k = probs.shape
    sample = sampled(n, max(_FEWEST, _CELLS // (m * k)))
    rows = np.concatenate([features(member[sample]) for member in probs], axis=1)
    start = np.tile(np.eye(k) / m, (m, 1))
    change = _regression(rows, targets[sample], start, precision=(m / SPREAD) ** 2)
    return {"coefficients": (start + change[:-1]).reshape(m, k, k), "bias": change[-1]}


def _regression(rows: Narrow, targets: Ints, start: Wide, precision: float) -> Wide:
    """float64 (m k + 1, k): the change of `start` (m k, k), and the bias, that minimise the penalised log-loss."""
    from scipy.optimize import minimize

    n, k = len(rows), start.shape[1]
    offset = rows @ start.astype(np.float32)
    hits = np.zeros((n, k), np.float32)
    hits[np.arange(n), targets] = 1
    shape = (rows.shape[1] + 1, k)
    # per row, as the loss is; the bias is on the scale of logits, not of their coefficients
    penalty = np.full((shape[0], 1), precision / n)
    penalty[-1] = 1 / n

    def loss(flat: Wide) -> tuple[float, Wide]:
        change = flat.reshape(shape)
        logits = (offset + rows @ change[:-1].astype(np.float32) + change[-1].astype(np.float32)).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        exps = np.exp(logits)
        sums = exps.sum(axis=1, keepdims=True)
        value = float(np.mean(np.log(sums[:, 0]) - logits[np.arange(n), targets]))
        residual = ((exps / sums) - hits).astype(np.float32) / np.float32(n)
        gradient = np.empty(shape)
        gradient[:-1] = rows.T @ residual
        gradient[-1] = residual.sum(axis=0)
        gradient += penalty * change
        return value + float((penalty * change**2).sum()) / 2, gradient.ravel()

    options: dict[str, Any] = {"maxiter": _STEPS, "gtol": 1e-6, "ftol": 1e-9}
    result = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=options)
    change: Wide = result.x.reshape(shape)
    return change
