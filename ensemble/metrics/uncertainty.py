"""How unsure a prediction is, and how far the members disagree, in nats."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Wide = npt.NDArray[np.float64]


def entropy(probs: Floats) -> Wide:
    """float64 (…,): the entropy of rows (…, k) of probabilities: 0 where one class is certain, ln(k) at most."""
    wide = probs.astype(np.float64)
    logs = np.log(np.where(wide > 0, wide, 1.0))
    found: Wide = -(wide * logs).sum(axis=-1)
    return np.maximum(found, 0.0)


def disagreement(probs: Floats, weights: Floats) -> Wide:
    """float64 (n,): the entropy of the members' mean minus the mean of their entropies, for probs (m, n, k).

    The mutual information of the answer and of who gives it (Houlsby et al. 2011; Lakshminarayanan et al. 2017):
    0 where all members say the same, however unsure they are. weights: (m,), summing to one; a member without
    weight is not heard.
    """
    heard = np.flatnonzero(weights)
    said, shares = probs[heard].astype(np.float64), weights[heard].astype(np.float64)
    mean = np.einsum("m,mnk->nk", shares, said)
    found: Wide = np.maximum(entropy(mean) - np.einsum("m,mn->n", shares, entropy(said)), 0.0)
    return found
