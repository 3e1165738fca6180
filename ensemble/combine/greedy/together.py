"""All climbs at once, for stacks so small that the calls cost more than the numbers in them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ensemble.combine.arrays import Wide
from ensemble.combine.greedy.climb import earliest_best, pick
from ensemble.combine.greedy.counting import Labels, countings
from ensemble.metrics import Metric
from ensemble.predictions import Floats, Ints


def climb_together(probs: Floats, targets: Ints, metric: Metric, bags: list[Ints], rounds: int) -> list[Ints]:
    """What `climb` gives for each of `bags`, by one of `countings`; every bag has as many members."""
    table = _Table(probs, targets, metric)
    candidates = np.stack(bags)
    prefixes = np.cumsum(table.members[:, candidates[:, :rounds]], axis=2)
    gains = table.scores(prefixes)
    climbs = [
        (bag, start) for bag in range(len(bags)) for start in dict.fromkeys((earliest_best(gains[bag]) + 1, 1))
    ]
    of_bag = np.array([bag for bag, _ in climbs])
    sums = np.stack([prefixes[:, bag, start - 1] for bag, start in climbs], axis=1)
    sequences = [candidates[bag, :start].tolist() for bag, start in climbs]
    scores = [gains[bag, :start].tolist() for bag, start in climbs]
    choices = candidates[of_bag]
    added = table.members[:, choices]
    inside = np.arange(candidates.shape[1]) < np.array([start for _, start in climbs])[:, None]
    for _ in range(rounds):
        tried = table.scores(sums[:, :, None] + added)
        best = np.array([pick(*one) for one in zip(tried, inside, strict=True)])
        for index, (place, sequence, score) in enumerate(zip(best, sequences, scores, strict=True)):
            inside[index, place] = True
            sequence.append(int(choices[index, place]))
            score.append(float(tried[index, place]))
        sums += added[:, np.arange(len(climbs)), best]
    return [
        _best_of([index for index in range(len(climbs)) if of_bag[index] == bag], sequences, scores)
        for bag in range(len(bags))
    ]


def _best_of(climbs: list[int], sequences: list[list[int]], scores: list[list[float]]) -> Ints:
    """The best prefix of the best of these climbs."""
    ends = [earliest_best(scores[index]) for index in climbs]
    best = earliest_best([scores[index][end] for index, end in zip(climbs, ends, strict=True)])
    return np.array(sequences[climbs[best]][: ends[best] + 1])


class _Table:
    """members: float64 (k, m, n), classes first, so that every step runs over long rows."""

    def __init__(self, probs: Floats, targets: Ints, metric: Metric) -> None:
        self.members = np.ascontiguousarray(probs.transpose(2, 0, 1), np.float64)
        self.targets, self.k = targets.astype(np.int32), probs.shape[2]
        self.counting, self.actual = countings[metric.name], np.bincount(targets, minlength=self.k)

    def scores(self, sums: Wide) -> Wide:
        """The score (a, b) of each of the sums (k, a, b, n)."""
        labels = _winners(sums.reshape(self.k, -1, len(self.targets)))
        tallies = self.counting.tally(labels, self.targets, self.k)
        return self.counting.score(tallies, self.actual).reshape(sums.shape[1:3])


def _winners(sums: Wide) -> Labels:
    """The class of the largest sum, int32 (q, n): sums (k, q, n); ties to the lower."""
    best, labels = sums[0].copy(), np.zeros(sums.shape[1:], np.int32)
    better: npt.NDArray[np.bool_] = np.empty(sums.shape[1:], bool)
    for c in range(1, len(sums)):
        np.greater(sums[c], best, out=better)
        np.maximum(best, sums[c], out=best)
        np.copyto(labels, c, where=better)
    return labels
