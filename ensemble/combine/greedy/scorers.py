"""Scorers of a growing ensemble: log loss, Brier score, and any metric."""

from __future__ import annotations

import numpy as np

from ensemble.core.predictions import Floats, Ints, Wide
from ensemble.metrics import SMALLEST, Metric

TOGETHER = 16
"""Number of probabilities multiplied per logarithm; each is at least 1e-15, so that 16 do not underflow."""

BLOCK = 1 << 16
"""Number of values processed together, so that they stay in the cache."""

GRAM_BLOCK = 1 << 21
"""Number of values converted to float64 at a time."""


class LogLossScorer:
    """The scorer for log-loss, which depends only on the probabilities of the targets."""

    def __init__(self, probs: Floats, targets: Ints, metric: Metric) -> None:
        m, n = probs.shape[:2]
        self.n, self.width = n, -(-n // TOGETHER)
        # the padding is 1 for every member, so that the logarithm of its mean is 0
        self.likelihoods = np.ones((m, TOGETHER * self.width), np.float32)
        self.likelihoods[:, :n] = probs[:, np.arange(n), targets]

    def begin(self, candidates: Ints) -> LikelihoodSum:
        return LikelihoodSum(self, candidates)

    def scores(self, sums: Wide, count: int, candidates: Ints) -> Wide:
        """The negative log-loss of (sums + candidate) / count, float64 (candidates,)."""
        step = max(1, BLOCK // len(sums))
        parts = [candidates[start : start + step] for start in range(0, len(candidates), step)]
        return np.concatenate([self.score(sums + self.likelihoods[part], count) for part in parts])

    def score(self, sums: Wide, count: int) -> Wide:
        """The negative log-loss of sums (j, padded n) / count, float64 (j,). Overwrites sums."""
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

    def __init__(self, scorer: LogLossScorer, candidates: Ints) -> None:
        self.scorer, self.candidates, self.count = scorer, candidates, 0
        self.sums = np.zeros(scorer.likelihoods.shape[1])

    def add(self, member: int) -> None:
        self.sums += self.scorer.likelihoods[member]
        self.count += 1

    def score(self) -> float:
        return float(self.scorer.score(self.sums[None].copy(), self.count)[0])

    def scores(self) -> Wide:
        return self.scorer.scores(self.sums, self.count + 1, self.candidates)


class BrierScorer:
    """The scorer for the Brier score, computed from the mean products of the errors of each pair of members."""

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
    """The running sum of the products of the added members with every member."""

    def __init__(self, scorer: BrierScorer, candidates: Ints) -> None:
        self.products, self.candidates, self.count = scorer.products, candidates, 0
        self.with_each, self.square = np.zeros(len(scorer.products)), 0.0

    def add(self, member: int) -> None:
        self.square += float(2 * self.with_each[member] + self.products[member, member])
        self.with_each += self.products[member]
        self.count += 1

    def score(self) -> float:
        return -self.square / self.count**2

    def scores(self) -> Wide:
        squares = self.square + (2 * self.with_each + np.diagonal(self.products))[self.candidates]
        return -squares / (self.count + 1) ** 2


class GenericScorer:
    """The scorer for any metric, which evaluates the metric on every candidate mean."""

    def __init__(self, probs: Floats, targets: Ints, metric: Metric) -> None:
        self.probs, self.targets, self.metric = probs, targets, metric

    def begin(self, candidates: Ints) -> MeanSum:
        return MeanSum(self, candidates)

    def score(self, probs: Floats) -> float:
        """The metric of probs (n, k), with its sign set so that greater is better."""
        score = self.metric(probs, self.targets)
        return score if self.metric.higher else -score


class MeanSum:
    """The running sum of the members' probabilities, float64 (n, k)."""

    def __init__(self, scorer: GenericScorer, candidates: Ints) -> None:
        self.scorer, self.candidates, self.count = scorer, candidates, 0
        self.sums = np.zeros(scorer.probs.shape[1:])

    def add(self, member: int) -> None:
        self.sums += self.scorer.probs[member]
        self.count += 1

    def score(self) -> float:
        return self.scorer.score(self.sums / self.count)

    def scores(self) -> Wide:
        probs, count = self.scorer.probs, self.count + 1
        return np.array([self.scorer.score((self.sums + probs[member]) / count) for member in self.candidates])
