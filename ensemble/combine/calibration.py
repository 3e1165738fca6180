"""Calibration: one temperature, and conformal prediction sets.

The score is that of the least ambiguous set-valued classifiers (LAC; Sadinle, Lei and Wasserman 2019): one minus
the probability of the true class. A set holds every class whose score is at most a quantile of the validation
rows' scores (Vovk et al. 2005; Angelopoulos and Bates 2021, "A gentle introduction to conformal prediction").
Of all scores it makes the smallest sets on average, and it decides row by row without chance; the adaptive sets
of Romano, Sesia and Candès (2020) need randomness to cover exactly. An empty set says that an image is less like
any class than the stated share of the validation rows is like its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ensemble.combine.arrays import normalised
from ensemble.core.predictions import Floats, Ints, Wide
from ensemble.metrics import SMALLEST

RANGE = (0.05, 20.0)
"""The temperatures that are searched, ends included."""

_STEPS = 50


def apply_temperature(probs: Floats, temperature: float) -> Wide:
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


HALVES = 200
_DUST = 1e-9


@dataclass(frozen=True)
class Conformal:
    """coverage: what was asked for.  bound: the highest score in a set; infinite where rows are too few.

    rows: how many it was calibrated on.
    """

    coverage: float
    bound: float
    rows: int

    def sets(self, probs: Floats) -> npt.NDArray[np.bool_]:
        """bool (n, k): which classes the set of each row of probs (n, k) holds."""
        inside: npt.NDArray[np.bool_] = 1 - probs.astype(np.float64) <= self.bound
        return inside


def true_scores(probs: Floats, targets: Ints) -> Wide:
    """float64 (n,): one minus the probability of the target, all known."""
    scores: Wide = 1 - probs[np.arange(len(targets)), targets].astype(np.float64)
    return scores


def calibrated(probs: Floats, targets: Ints, coverage: float) -> Conformal:
    """Sets that hold the truth of a new row, drawn as these rows were, with probability `coverage` at least.

    probs (n, k) of rows that the model has not learnt from, targets (n,) all known.
    """
    return Conformal(coverage, _bound(true_scores(probs, targets), coverage), len(targets))


def mean_coverage(probs: Floats, targets: Ints, coverage: float, halves: int = HALVES, seed: int = 0) -> float:
    """The share of one half's rows whose set, calibrated on the other half, holds the truth; over random halves.

    nan for fewer than two rows.
    """
    scores, random = true_scores(probs, targets), np.random.default_rng(seed)
    if len(scores) < 2:
        return math.nan
    shares = []
    for _ in range(halves):
        order = random.permutation(scores)
        first, second = np.array_split(order, 2)
        shares.append(np.mean(second <= _bound(first, coverage)))
    return float(np.mean(shares))


def _bound(scores: Wide, coverage: float) -> float:
    """The score of rank ceil((n + 1) coverage), which covers one row more with that probability."""
    rank = math.ceil((len(scores) + 1) * coverage - _DUST)
    if rank > len(scores):
        return math.inf
    return float(np.partition(scores, max(rank, 1) - 1)[max(rank, 1) - 1])
