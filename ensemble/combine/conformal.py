"""Sets of classes that hold the true one with a stated probability: split conformal prediction.

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

from ensemble.combine.arrays import Wide
from ensemble.predictions import Floats, Ints

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
