"""Every metric at once, for metrics.json."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ensemble.metrics.base import Rows, View, metrics
from ensemble.predictions import Floats, Ints


def score(probs: Floats, targets: Ints) -> dict[str, float]:
    """Every metric of `probs` (n, k) on `targets` (n,), all known; nothing where n is 0.

    A metric that these rows do not decide (nan) is left out.
    """
    if not len(targets):
        return {}
    views: dict[View, Rows] = {}
    scores = {}
    for metric in map(metrics.get, metrics.names()):
        if metric.of not in views:
            views[metric.of] = metric.of(probs, targets)
        scores[metric.name] = float(metric.summary(views[metric.of], targets))
    return {name: value for name, value in scores.items() if not math.isnan(value)}


def absent(targets: Ints, classes: Sequence[str]) -> list[str]:
    """The classes (k,) that no target (n,) names, in their order: the averages of the metrics are without them."""
    there = set(targets.tolist())
    return [str(name) for c, name in enumerate(classes) if c not in there]
