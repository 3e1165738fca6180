"""Any metric: it is asked about the mean with each candidate."""

from __future__ import annotations

import numpy as np

from ensemble.combine.arrays import Wide
from ensemble.metrics import Metric
from ensemble.predictions import Floats, Ints


class Anything:
    """The judge that knows nothing of its metric."""

    def __init__(self, probs: Floats, targets: Ints, metric: Metric) -> None:
        self.probs, self.targets, self.metric = probs, targets, metric

    def begin(self, candidates: Ints) -> Mean:
        return Mean(self, candidates)

    def score(self, probs: Floats) -> float:
        """The metric of probs (n, k), turned so that more is better."""
        score = self.metric(probs, self.targets)
        return score if self.metric.higher else -score


class Mean:
    """The running sum of whole members, float64 (n, k)."""

    def __init__(self, judge: Anything, candidates: Ints) -> None:
        self.judge, self.candidates, self.count = judge, candidates, 0
        self.sums = np.zeros(judge.probs.shape[1:])

    def add(self, member: int) -> None:
        self.sums += self.judge.probs[member]
        self.count += 1

    def score(self) -> float:
        return self.judge.score(self.sums / self.count)

    def scores(self) -> Wide:
        probs, count = self.judge.probs, self.count + 1
        return np.array([self.judge.score((self.sums + probs[member]) / count) for member in self.candidates])
