"""The combining rules, each a registered pair of `fit` and `apply`; numpy only until one is fitted."""

from ensemble.combine.arrays import Wide, normalised
from ensemble.combine.rules import auto, convex, greedy, logarithmic, per_class, rank, stack, weighted
from ensemble.combine.rules.base import (
    Params,
    Rule,
    accuracies,
    rule,
    rules,
    stored_weights,
)

__all__ = [
    "Params",
    "Rule",
    "Wide",
    "accuracies",
    "auto",
    "convex",
    "greedy",
    "logarithmic",
    "normalised",
    "per_class",
    "rank",
    "rule",
    "rules",
    "stack",
    "stored_weights",
    "weighted",
]
