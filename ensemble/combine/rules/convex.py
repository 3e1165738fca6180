"""The weights of the least log-loss."""

from __future__ import annotations

import numpy as np

from ensemble.combine.arrays import Wide, enough_rows
from ensemble.combine.rules.base import Params, rule
from ensemble.combine.simplex import mixture
from ensemble.combine.temperature import fit_temperature, heated, likelihoods
from ensemble.metrics import SMALLEST
from ensemble.predictions import Floats, Ints


def weighted_calibrated(params: Params, j: int, member: Floats) -> Wide:
    """The weight of member j times its probabilities (n, k) at its own temperature."""
    term: Wide = params["weights"][j] * heated(member, float(params["temperatures"][j]))
    return term


@rule("convex", complexity=5, term=weighted_calibrated)
def convex(probs: Floats, targets: Ints) -> Params:
    """Each member calibrated by its own temperature, then the weights on the simplex of the least log-loss.

    A maximum-likelihood mixture (super learning with log-loss, van der Laan et al. 2007): one optimum, no seed.
    """
    m, n, k = probs.shape
    temperatures = np.empty(m)
    likely = np.empty((m, n)).T
    some = enough_rows(n, k)
    for j, member in enumerate(probs):
        temperatures[j] = fit_temperature(member[some], targets[some])
        likely[:, j] = likelihoods(member, targets, temperatures[j])
    weights = mixture(np.maximum(likely, SMALLEST))
    # what the optimum does not need is none of it, not a rounding error of it
    return {"weights": _without_dust(weights), "temperatures": temperatures}


def _without_dust(weights: Wide) -> Wide:
    kept = np.where(weights < 1e-6, 0.0, weights)
    cleaned: Wide = kept / kept.sum()
    return cleaned
