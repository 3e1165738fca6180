"""Calibration: temperature scaling, and conformal prediction sets.

The nonconformity score is that of the least ambiguous set-valued classifiers (LAC; Sadinle, Lei and Wasserman
2019): one minus the probability of the true class. A set contains every class whose score is at most a quantile
of the validation rows' scores (Vovk et al. 2005; Angelopoulos and Bates 2021, "A gentle introduction to conformal
prediction"). This score gives the smallest sets on average and is deterministic; the adaptive sets of Romano,
Sesia and Candès (2020) need randomness for exact coverage. A set is empty if every class has a lower probability
than the true class of the stated share of validation rows.
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
"""The searched range of temperatures, ends included."""

_STEPS = 50


def apply_temperature(probs: Floats, temperature: float) -> Wide:
    """probs (n, k) to the power of 1 / temperature, rows normalised; each row independent of the others."""
    logs = np.log(np.maximum(probs.astype(np.float64, order="C"), SMALLEST))
    # the largest entry becomes one, so that no row underflows to zeros
    logs -= logs.max(axis=1, keepdims=True)
    return normalised(np.exp(logs / temperature))


def likelihoods(probs: Floats, targets: Ints, temperature: float) -> Wide:
    """The probabilities of the targets after `apply_temperature`, float64 (n,), in float32 precision."""
    # classes first: sums along a long contiguous axis are faster
    logs = np.log(np.maximum(np.ascontiguousarray(probs.T), np.float32(SMALLEST))) * np.float32(1 / temperature)
    logs -= logs.max(axis=0)
    of_target = logs[targets, np.arange(len(targets))]
    shares: Wide = np.exp(of_target.astype(np.float64)) / np.exp(logs, out=logs).sum(axis=0)
    return shares


def fit_temperature(probs: Floats, targets: Ints) -> float:
    """The temperature within RANGE that minimises the log-loss on targets (n,), all known.

    The log-loss is convex in 1 / temperature: Newton's method, with bisection if a step leaves the bracket.
    """
    logs = np.log(np.maximum(np.ascontiguousarray(probs.T, dtype=np.float64), SMALLEST))
    logs -= logs.max(axis=0)
    of_target = float(np.mean(logs[targets, np.arange(len(targets))]))
    low, high = 1 / RANGE[1], 1 / RANGE[0]
    inverse = 1.0
    for _ in range(_STEPS):
        derivative, second_derivative = _derivatives(logs, inverse)
        derivative -= of_target
        if derivative == 0:  # also if every row is uniform, so that no temperature changes it
            break
        low, high = (low, inverse) if derivative > 0 else (inverse, high)
        newton = inverse - derivative / second_derivative if second_derivative > 0 else -1.0
        # clip to the range: bisection would only approach its ends
        next_inverse = min(max(newton, 1 / RANGE[1]), 1 / RANGE[0]) if second_derivative > 0 else (low + high) / 2
        if not low <= next_inverse <= high:
            next_inverse = (low + high) / 2
        if abs(next_inverse - inverse) <= 1e-10 * inverse:
            break
        inverse = next_inverse
    return float(1 / inverse)


def _derivatives(logs: Wide, inverse: float) -> tuple[float, float]:
    """The first and second derivative of mean(log(sum(exp(inverse * logs)))) for logs (k, n)."""
    weights = np.exp(inverse * logs)
    sums = weights.sum(axis=0)
    weights *= logs
    means = weights.sum(axis=0) / sums
    weights *= logs
    squares = weights.sum(axis=0) / sums
    return float(np.mean(means)), float(np.mean(squares - means * means))


HALVES = 200
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Conformal:
    """coverage: the requested coverage.  bound: the largest score in a set; infinite if there are too few rows.

    rows: number of calibration rows.
    """

    coverage: float
    bound: float
    rows: int

    def sets(self, probs: Floats) -> npt.NDArray[np.bool_]:
        """bool (n, k): which classes the set of each row of probs (n, k) contains."""
        inside: npt.NDArray[np.bool_] = 1 - probs.astype(np.float64) <= self.bound
        return inside


def true_scores(probs: Floats, targets: Ints) -> Wide:
    """Nonconformity scores, float64 (n,): one minus the probability of the target, all known."""
    scores: Wide = 1 - probs[np.arange(len(targets)), targets].astype(np.float64)
    return scores


def calibrated(probs: Floats, targets: Ints, coverage: float) -> Conformal:
    """Sets that contain the true class of a new exchangeable row with probability at least `coverage`.

    probs (n, k) of rows that the model was not trained on, targets (n,) all known.
    """
    return Conformal(coverage, _bound(true_scores(probs, targets), coverage), len(targets))


def mean_coverage(probs: Floats, targets: Ints, coverage: float, halves: int = HALVES, seed: int = 0) -> float:
    """The mean coverage of one random half of the rows by sets calibrated on the other half.

    halves: number of random splits in two. nan for fewer than two rows.
    """
    scores, random = true_scores(probs, targets), np.random.default_rng(seed)
    if len(scores) < 2:
        return math.nan
    coverages = []
    for _ in range(halves):
        order = random.permutation(scores)
        first, second = np.array_split(order, 2)
        coverages.append(np.mean(second <= _bound(first, coverage)))
    return float(np.mean(coverages))


def _bound(scores: Wide, coverage: float) -> float:
    """The score of rank ceil((n + 1) coverage), which covers a further row with that probability."""
    rank = math.ceil((len(scores) + 1) * coverage - _ROUNDING)
    if rank > len(scores):
        return math.inf
    return float(np.partition(scores, max(rank, 1) - 1)[max(rank, 1) - 1])
