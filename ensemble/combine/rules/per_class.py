"""A weight for every member and class: whoever knows moles best has the say on moles."""

from __future__ import annotations

import numpy as np

from ensemble.combine.arrays import Wide, normalised
from ensemble.combine.rules.base import Params, rule
from ensemble.combine.simplex import quadratic
from ensemble.predictions import Floats, Ints

SHRINKAGE = 2.0
"""How many rows' worth of squared error pull the weights to the plain mean, times the number of members."""


def weighted_by_class(params: Params, j: int, member: Floats) -> Wide:
    """The weights of member j for each class times its probabilities (n, k)."""
    term: Wide = params["by_class"][j] * member.astype(np.float64)
    return term


def rows_to_one(params: Params, total: Wide) -> Wide:
    """Rows (n, k) divided by their sums; all classes alike where nobody of weight gives any of them anything."""
    total = np.where(np.add.accumulate(total, axis=1)[:, -1:] > 0, total, 1.0)
    return normalised(total)


def mean_over_classes(params: Params) -> Wide:
    """The weight of a member: the mean of its weights for the classes, (m,)."""
    weights: Wide = params["by_class"].mean(axis=1)
    return weights


def by_class(params: Params) -> Wide:
    """The weights themselves, (m, k)."""
    return params["by_class"]


@rule(
    "per-class",
    complexity=7,
    term=weighted_by_class,
    finish=rows_to_one,
    weights=mean_over_classes,
    shares=by_class,
)
def per_class(probs: Floats, targets: Ints) -> Params:
    """For each class the weights (m,) on the simplex of the least squared error against the rest.

    Stacked regressions with non-negative weights (Breiman 1996), shrunk to the plain mean; a class without a
    row keeps that.
    """
    m, _, k = probs.shape
    weights = np.full((m, k), 1 / m)
    ridge = SHRINKAGE * m * np.eye(m)
    for c in np.unique(targets):
        said = np.ascontiguousarray(probs[:, :, c])
        hit = (targets == c).astype(np.float32)
        gram, pull = (said @ said.T).astype(np.float64), (said @ hit).astype(np.float64)
        weights[:, c] = quadratic(gram + ridge, pull + ridge @ weights[:, c])
    return {"by_class": weights}
