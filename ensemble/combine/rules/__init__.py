"""What a combining rule is: m members' probabilities to one.

A rule is a decorated `fit`, with a `term` and a `finish` where the weighted mean will not do:

>>> @rule("uniform", complexity=0)
... def uniform(probs, targets): return {"weights": np.full(len(probs), 1 / len(probs))}

`fit(probs (m, n, k), targets (n,))` gives parameters, a dict of named arrays that an npz can hold;
`apply(params, probs (m, n, k))` gives float64 (n, k) row by row, so that one image and a thousand give the
same answer to the last bit. It adds up a term of each member, so that one can be taken out again.
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
    """`params["weights"]` (m,); None for a rule that has no weight for each member."""
    return params.get("weights")


def stored_shares(params: Params) -> Wide:
    """`params["weights"]` (m,), which sum to one."""
    return params["weights"]


def no_coefficients(m: int, k: int) -> int:
    """0: a rule whose parameters are not fitted together."""
    return 0


@dataclass(frozen=True)
class Rule:
    """A combining rule: what it decides, and how it adds up.

    complexity: how much it decides; of rules that are as good as each other `auto` takes the lowest.
    term: of member j, float64 (n, k), row by row.  finish: the sum of terms as rows of probabilities.
    weights: for each member (m,), where the rule has one.  shares: what each member makes of the whole,
    (m,), or (m, k) where it differs by class; they sum to one over members.  calibrates: whether a temperature
    is fitted unless somebody says no.  optimises: whether the metric is the third argument of `decide`.
    coefficients: (m, k) -> how many numbers are fitted together, step by step; time and memory grow with them.
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

    def fit(self, probs: Floats, targets: Ints, metric: Metric | None = None) -> Params:
        """The parameters for probs (m, n, k) and targets (n,), all known. metric: accuracy unless given."""
        if self.optimises:
            return self.decide(probs, targets, metric or metrics.get("accuracy"))
        return self.decide(probs, targets)

    def apply(self, params: Params, probs: Floats) -> Wide:
        """float64 (n, k) from probs (m, n, k): the members' terms, added up in their order. Row by row."""
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
    modules=("ensemble.combine.rules.means", "ensemble.combine.rules.stack", "ensemble.combine.rule_selection"),
)


def rule(name: str, *, complexity: float = 10, **options: Any) -> Callable[[Fit], Fit]:
    """A decorator that files a `fit` under `name`; options are further fields of Rule."""

    def add(fit: Fit) -> Fit:
        rules.register(name)(Rule(name, fit, complexity, **options))
        return fit

    return add


def accuracies(probs: Floats, targets: Ints) -> Wide:
    """The accuracy of each member, float64 (m,): probs (m, n, k), targets (n,) all known."""
    hits = [np.count_nonzero(labels(member) == targets) for member in probs]
    return np.array(hits, np.float64) / np.float64(len(targets))
