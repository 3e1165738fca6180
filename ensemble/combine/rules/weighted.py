"""Weighted means whose weights a reader can check by hand."""

from __future__ import annotations

import numpy as np

from ensemble.combine.arrays import shares, uniform_weights
from ensemble.combine.rules.base import Params, accuracies, rule
from ensemble.predictions import Floats, Ints


@rule("uniform", complexity=0, calibrates=False)
def uniform(probs: Floats, targets: Ints) -> Params:
    """Every member weighs the same: the plain mean."""
    return {"weights": uniform_weights(len(probs))}


@rule("accuracy", complexity=1, calibrates=False)
def accuracy(probs: Floats, targets: Ints) -> Params:
    """Each member weighs its accuracy over the sum of all accuracies."""
    return {"weights": shares(accuracies(probs, targets))}


@rule("log-odds", complexity=2)
def log_odds(probs: Floats, targets: Ints) -> Params:
    """Each member weighs ln((k - 1) a / (1 - a)), a its accuracy; nothing where it is no better than chance.

    The best weights of independent voters (Nitzan and Paroush 1982; for k classes the member weight of SAMME,
    Zhu et al. 2009). An accuracy counts as half a row from all and from none, so that no weight is infinite.
    """
    n, k = probs.shape[1:]
    rate = np.clip(accuracies(probs, targets), 0.5 / n, 1 - 0.5 / n)
    return {"weights": shares(np.log((k - 1) * rate / (1 - rate)))}
