"""Ensemble selection: members are added, again and again, where they help the metric most."""

from __future__ import annotations

from ensemble.combine.greedy import greedy_weights
from ensemble.combine.rules.base import Params, rule
from ensemble.metrics import Metric
from ensemble.predictions import Floats, Ints


@rule("greedy", complexity=6, optimises=True)
def greedy(probs: Floats, targets: Ints, metric: Metric) -> Params:
    """The bagged selection with replacement of Caruana et al. (2004, 2006), for the metric asked for."""
    return {"weights": greedy_weights(probs, targets, metric)}
