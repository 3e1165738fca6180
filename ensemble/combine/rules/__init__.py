"""Combining rules: from the probabilities of m members to those of the ensemble.

A rule is a decorated `fit`, with a `term` and a `finish` if it is not a weighted mean:

>>> @rule("uniform", complexity=0)
... def uniform(probs, targets): return {"weights": np.full(len(probs), 1 / len(probs))}

`fit(probs (m, n, k), targets (n,))` returns parameters, a dict of named arrays that an npz can store;
`apply(params, probs (m, n, k))` returns float64 (n, k) computed row by row, so that the result for an image is
bit-identical in batches of any size. It is a sum of one term per member, so that a member can be removed again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ensemble.combine.arrays import normalised
from ensemble.core.predictions import Floats, Ints, Wide
from ensemble.core.registry import Registry
from ensemble.metrics import Metric, labels, metrics

Params = Mapping[str, npt.NDArray[Any]]
Fit = Callable[..., Params]
Term = Callable[[Params, int, Floats], Wide]
Finish = Callable[[Params, Wide], Wide]
Weights = Callable[[Params], Wide | None]
Shares = Callable[[Params], Wide]


def weighted(params: Params, j: int, member: Floats) -> Wide:
    """`params["weights"]` (m,) of member j times its probabilities (n, k)."""
    term: Wide = params["weights"][j] * member.astype(np.float64)
    return term


def rows_to_one(params: Params, total: Wide) -> Wide:
    """Rows (n, k) divided by their sums."""
    return normalised(total)


def stored_weights(params: Params) -> Wide | None:
    """`params["weights"]` (m,); None for a rule without one weight per member."""
    return params.get("weights")


def stored_shares(params: Params) -> Wide:
    """`params["weights"]` (m,), which sum to one."""
    return params["weights"]


def no_coefficients(m: int, k: int) -> int:
    """0, for rules without jointly fitted coefficients."""
    return 0


@dataclass(frozen=True)
class Rule:
    """A combining rule.

    decide: the function that fits the parameters.  complexity: of equally good rules `auto` selects the lowest.
    term: of member j, float64 (n, k), row by row.  finish: from the sum of terms to rows of probabilities.
    weights: one per member (m,), or None.  shares: each member's share of the result, (m,), or (m, k) if it differs
    by class; they sum to one over members.  calibrates: whether a temperature is fitted by default.  optimises:
    whether `decide` takes the metric as third argument.  coefficients: (m, k) -> number of jointly and iteratively
    fitted coefficients, with which time and memory grow.
    graph: the same term and finish in torch, an ensemble.export.rules.GraphRule or a reference `module:name` to it;
    None: the rule cannot be exported.
    """

    name: str
    decide: Fit
    complexity: float
    term: Term = weighted
    finish: Finish = rows_to_one
    weights: Weights = stored_weights
    shares: Shares = stored_shares
    calibrates: bool = True
    optimises: bool = False
    coefficients: Callable[[int, int], int] = no_coefficients
    graph: Any = None

    def fit(self, probs: Floats, targets: Ints, metric: Metric | None = None) -> Params:
        """The parameters for probs (m, n, k) and targets (n,), all known. metric: default accuracy."""
        if self.optimises:
            return self.decide(probs, targets, metric or metrics.get("accuracy"))
        return self.decide(probs, targets)

    def apply(self, params: Params, probs: Floats) -> Wide:
        """float64 (n, k) from probs (m, n, k): the members' terms added in order. Row by row."""
        total = np.zeros(probs.shape[1:], np.float64)
        shares = self.shares(params)
        if len(shares) != len(probs):
            raise ValueError(f"{len(probs)} members found, {len(shares)} expected by the rule {self.name}")
        for j, member in enumerate(probs):
            if shares[j].any():
                total += self.term(params, j, member)
        return self.finish(params, total)


rules: Registry[Rule] = Registry(
    "combining rule",
    modules=("ensemble.combine.rules.means", "ensemble.combine.rules.stack", "ensemble.combine.rules.auto"),
)


_WEIGHTED_MEAN = "ensemble.export.rules:WEIGHTED_MEAN"


def rule(name: str, *, complexity: float = 10, **options: Any) -> Callable[[Fit], Fit]:
    """A decorator that registers a `fit` as the rule `name`; options are further fields of Rule.

    A weighted mean, which has neither a term nor a finish of its own, can be exported as it is.
    """
    if not {"term", "finish"} & set(options):
        options.setdefault("graph", _WEIGHTED_MEAN)

    def add(fit: Fit) -> Fit:
        rules.register(name)(Rule(name, fit, complexity, **options))
        return fit

    return add


def accuracies(probs: Floats, targets: Ints) -> Wide:
    """The accuracy of each member, float64 (m,): probs (m, n, k), targets (n,) all known."""
    hits = [np.count_nonzero(labels(member) == targets) for member in probs]
    return np.array(hits, np.float64) / np.float64(len(targets))
