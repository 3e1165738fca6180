"""Scorers of a growing ensemble: log loss, Brier score, and any metric."""

from __future__ import annotations

import numpy as np

from ensemble.core.predictions import Floats, Ints, Wide
from ensemble.metrics import SMALLEST, Metric

TOGETHER = 16
"""Probabilities multiplied before one logarithm is taken; not below 1e-15, sixteen of them do not underflow."""

BLOCK = 1 << 16
"""Numbers looked at together, so that they stay in the cache."""

GRAM_BLOCK = 1 << 21
"""Numbers of the stack that are float64 at a time."""


class LogLossScorer:
    """The judge by log-loss, which only the probabilities of the targets decide."""

    def __init__(self, probs: Floats, targets: Ints, metric: Metric) -> None:
        m, n = probs.shape[:2]
        self.n, self.width = n, -(-n // TOGETHER)
        # what fills the last rows up is one for every member, and its logarithm in a mean is zero
        self.likelihoods = np.ones((m, TOGETHER * self.width), np.float32)
        self.likelihoods[:, :n] = probs[:, np.arange(n), targets]

    def begin(self, candidates: Ints) -> LikelihoodSum:
        return LikelihoodSum(self, candidates)

    def scores(self, sums: Wide, count: int, candidates: Ints) -> Wide:
        """minus the log-loss of (sums + candidate) / count, float64 (candidates,)."""
        step = max(1, BLOCK // len(sums))
        parts = [candidates[start : start + step] for start in range(0, len(candidates), step)]
        return np.concatenate([self.score(sums + self.likelihoods[part], count) for part in parts])

    def score(self, sums: Wide, count: int) -> Wide:
        """minus the log-loss of sums (j, padded n) / count, float64 (j,). Overwrites sums."""
        np.maximum(sums, SMALLEST * count, out=sums)
        factors = sums.reshape(len(sums), TOGETHER, self.width)
        half = TOGETHER // 2
        while half:
            factors[:, :half] *= factors[:, half : 2 * half]
            half //= 2
        logs = np.log(factors[:, 0]).sum(axis=1)
        mean: Wide = (logs - sums.shape[1] * np.log(count)) / self.n
        return mean


class LikelihoodSum:
    """The running sum of the probabilities of the targets."""

    def __init__(self, judge: LogLossScorer, candidates: Ints) -> None:
        self.judge, self.candidates, self.count = judge, candidates, 0
        self.sums = np.zeros(judge.likelihoods.shape[1])

    def add(self, member: int) -> None:
        self.sums += self.judge.likelihoods[member]
        self.count += 1

    def score(self) -> float:
        return float(self.judge.score(self.sums[None].copy(), self.count)[0])

    def scores(self) -> Wide:
        return self.judge.scores(self.sums, self.count + 1, self.candidates)


class BrierScorer:
    """The judge by the Brier score: the mean product of the errors of each two members decides it."""

    def __init__(self, probs: Floats, targets: Ints, metric: Metric) -> None:
        m, n, k = probs.shape
        self.products = np.zeros((m, m))
        step = max(1, GRAM_BLOCK // (m * k))
        for start in range(0, n, step):
            rows = slice(start, start + step)
            errors = probs[:, rows].astype(np.float64, order="C")
            errors[:, np.arange(errors.shape[1]), targets[rows]] -= 1
            errors = errors.reshape(m, -1)
            self.products += errors @ errors.T
        self.products /= n

    def begin(self, candidates: Ints) -> SquaredErrorSum:
        return SquaredErrorSum(self, candidates)


class SquaredErrorSum:
    """How often each member was added, by way of its product with every other one."""

    def __init__(self, judge: BrierScorer, candidates: Ints) -> None:
        self.products, self.candidates, self.count = judge.products, candidates, 0
        self.with_each, self.square = np.zeros(len(judge.products)), 0.0

    def add(self, member: int) -> None:
        self.square += float(2 * self.with_each[member] + self.products[member, member])
        self.with_each += self.products[member]
        self.count += 1

    def score(self) -> float:
        return -self.square / self.count**2

    def scores(self) -> Wide:
        grown = self.square + (2 * self.with_each + np.diagonal(self.products))[self.candidates]
        return -grown / (self.count + 1) ** 2


class GenericScorer:
    """The judge that knows nothing of its metric."""

    def __init__(self, probs: Floats, targets: Ints, metric: Metric) -> None:
        self.probs, self.targets, self.metric = probs, targets, metric

    def begin(self, candidates: Ints) -> MeanSum:
        return MeanSum(self, candidates)

    def score(self, probs: Floats) -> float:
        """The metric of probs (n, k), turned so that more is better."""
        score = self.metric(probs, self.targets)
        return score if self.metric.higher else -score


class MeanSum:
    """The running sum of whole members, float64 (n, k)."""

    def __init__(self, judge: GenericScorer, candidates: Ints) -> None:
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
