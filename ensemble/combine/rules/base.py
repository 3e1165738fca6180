"""Combining rules: m members' probabilities to one.

A rule is a decorated `fit`, with an `apply` where the weighted mean will not do:

>>> @rule("uniform")
... def uniform(probs, targets): return {"weights": np.full(len(probs), 1 / len(probs))}

`fit(probs (m, n, k), targets (n,))` gives parameters, a dict of named arrays that an npz can hold;
`apply(params, probs (m, n, k))` gives float64 (n, k) row by row, so that one image and a thousand give the
same answer to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ensemble.metrics import labels
from ensemble.predictions import Floats, Ints
from ensemble.registry import Registry

Params = Mapping[str, npt.NDArray[Any]]
Wide = npt.NDArray[np.float64]
Fit = Callable[[Floats, Ints], Params]
Apply = Callable[[Params, Floats], Wide]
Weights = Callable[[Params], Wide | None]


def normalised(rows: Wide) -> Wide:
    """Rows (n, k) divided by their sums. The sums run from the first column on, whatever n and the layout."""
    return rows / np.add.accumulate(rows, axis=1)[:, -1:]


def weighted_mean(params: Params, probs: Floats) -> Wide:
    """The mean of probs (m, n, k) with the weights `params["weights"]` (m,), summed in the members' order."""
    total = np.zeros(probs.shape[1:], np.float64)
    for weight, member in zip(params["weights"].tolist(), probs, strict=True):
        total += weight * member.astype(np.float64)
    return normalised(total)


def stored_weights(params: Params) -> Wide | None:
    """`params["weights"]` (m,); None for a rule that has no weight for each member."""
    return params.get("weights")


@dataclass(frozen=True)
class Rule:
    """A combining rule. calibrates: whether a temperature is fitted unless somebody says no."""

    name: str
    fit: Fit
    apply: Apply = weighted_mean
    weights: Weights = stored_weights
    calibrates: bool = False


rules: Registry[Rule] = Registry("combining rule")


def rule(
    name: str,
    *,
    apply: Apply = weighted_mean,
    weights: Weights = stored_weights,
    calibrates: bool = False,
) -> Callable[[Fit], Fit]:
    """A decorator that files a `fit` with its `apply` under `name`."""

    def add(fit: Fit) -> Fit:
        rules.register(name)(Rule(name, fit, apply, weights, calibrates))
        return fit

    return add


def accuracies(probs: Floats, targets: Ints) -> Wide:
    """The accuracy of each member, float64 (m,): probs (m, n, k), targets (n,) all known."""
    hits: Ints = np.count_nonzero(labels(probs) == targets, axis=1)
    return hits / np.float64(len(targets))


@rule("accuracy")
def accuracy(probs: Floats, targets: Ints) -> Params:
    """Each member weighs its accuracy over the sum of all accuracies."""
    scores = accuracies(probs, targets)
    # all-wrong members have no accuracy to share out
    return {"weights": scores / scores.sum()} if scores.any() else uniform(probs, targets)


@rule("uniform")
def uniform(probs: Floats, targets: Ints) -> Params:
    """Every member weighs the same: the plain mean."""
    return {"weights": np.full(len(probs), 1 / len(probs))}
