"""Greedy ensemble selection (Caruana et al. 2004): hill climbing over samples of members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ensemble.combine.arrays import shares, uniform_weights
from ensemble.combine.greedy.label_scorers import Labels, LabelScorer, countings
from ensemble.combine.greedy.scorers import BrierScorer, GenericScorer, LogLossScorer
from ensemble.core.predictions import Floats, Ints, Wide
from ensemble.metrics import Metric

TIE = 1e-12
"""Scores this near to each other are the same score: sums differ by as much with the order of their terms."""


class RunningSum(Protocol):
    """A running sum of members. Scores are turned so that more is better; nan where the rows decide nothing."""

    def add(self, member: int) -> None:
        """Count `member` once more."""

    def score(self) -> float:
        """The score of the mean as it is."""

    def scores(self) -> Wide:
        """The score of the mean after adding each candidate in turn, float64 (candidates,)."""


class Scorer(Protocol):
    """What is computed once for a metric and shared by all runs."""

    def begin(self, candidates: Ints) -> RunningSum:
        """The empty sum, to which any of `candidates` may be added."""


def hill_climb(judge: Scorer, candidates: Ints, rounds: int) -> Ints:
    """Members in the order in which they are added, the best prefix of the whole sequence.

    candidates: the members of this run, best first; among equals an earlier one is taken. Starts from the best
    prefix of `candidates`, and from the first of them alone, since no member of a long prefix is ever removed.
    """
    gains = _prefixes(judge, candidates[:rounds])
    starts = dict.fromkeys((earliest_best(gains) + 1, 1))
    climbs = [_climb_from(judge, candidates, gains[:start], rounds) for start in starts]
    return climbs[earliest_best([score for score, _ in climbs])][1]


def _climb_from(judge: Scorer, candidates: Ints, gains: list[float], rounds: int) -> tuple[float, Ints]:
    """The best score and its sequence, from the prefix of `candidates` that has these scores on."""
    kept = len(gains)
    sequence, scores = candidates[:kept].tolist(), list(gains)
    total = judge.begin(candidates)
    for member in sequence:
        total.add(member)
    inside = np.arange(len(candidates)) < kept
    for _ in range(rounds):
        tried = comparable(total.scores())
        best = pick(tried, inside)
        inside[best] = True
        total.add(int(candidates[best]))
        sequence.append(int(candidates[best]))
        scores.append(float(tried[best]))
    best = earliest_best(scores)
    return scores[best], np.array(sequence[: best + 1])


def _prefixes(judge: Scorer, first: Ints) -> list[float]:
    total, scores = judge.begin(first), []
    for member in first.tolist():
        total.add(member)
        scores.append(total.score())
    return [float(score) for score in comparable(np.array(scores))]


def comparable(scores: Wide) -> Wide:
    """The same scores with the worst of all in place of nan."""
    return np.where(np.isnan(scores), -np.inf, scores)


def pick(scores: Wide, inside: npt.NDArray[np.bool_]) -> int:
    """The best candidate; among equals one that is already in, then the earlier one."""
    tied = scores >= scores.max() - TIE
    return int(np.argmax(tied & inside if (tied & inside).any() else tied))


def earliest_best(scores: Sequence[float] | Wide) -> int:
    """The first place whose score is within TIE of the best."""
    best = max(scores) - TIE
    return next(i for i, score in enumerate(scores) if score >= best)


def hill_climbs(probs: Floats, targets: Ints, metric: Metric, bags: list[Ints], rounds: int) -> list[Ints]:
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


ROUNDS = 25
"""Members added after the sorted initialisation."""

BAGS = 5
"""Bags where they are cheap; fewer than FEWEST of them are not worth the members that each leaves out."""

FEWEST = 3
SHARE = 0.75
"""Of the members, what a bag sees: half of them too often leaves out what nothing else stands in for."""

SEED = 0

DIGITS = 12
"""Of own scores, so that roundings sort no members."""

TOGETHER = 300_000
"""Probabilities in all bags up to which all climbs take their steps together."""

judges: dict[str, Callable[[Floats, Ints, Metric], Scorer]] = {
    "accuracy": LabelScorer,
    "balanced_accuracy": LabelScorer,
    "macro_f1": LabelScorer,
    "kappa": LabelScorer,
    "log_loss": LogLossScorer,
    "brier": BrierScorer,
}
"""For these metrics the answers are known without asking about every candidate; the others are asked."""

KNOWN, ASKED = 50_000_000, 1_000_000
"""Probabilities that all bags together may see by default, where the metric is known and where it is asked."""


def greedy_weights(
    probs: Floats, targets: Ints, metric: Metric, *, rounds: int = ROUNDS, bags: int | None = None
) -> Wide:
    """The weight of each member, float64 (m,), summing to one: how often it is in the selected ensemble.

    probs: float32 (m, n, k).  targets: int64 (n,), n at least 1, all known.
    rounds: how many times a member is added, and how many the sorted initialisation takes at most.
    bags: how many random three quarters of the members are climbed with, their weights averaged; 0 climbs with
    all members alone. None is BAGS for stacks of up to 5 million probabilities, fewer for larger ones and none
    beyond 16 million. A metric that has to be asked about every candidate gets a fiftieth of that, and only as
    many of the best members as make a million probabilities, at least FEWEST.

    One climb: members are sorted by their own score, ties by index, and the ensemble starts as the best prefix of
    that order. Then, again and again, the member is added with which the mean of all added ones scores best;
    among equals one that is already in, then the one of the better own score, then the lower index. The best
    prefix of the whole sequence is the ensemble, the shortest one of the best. The climb is repeated from the best
    member alone, and the better of the two is taken. (Caruana, Niculescu-Mizil, Crew, Ksikes 2004, Ensemble
    selection from libraries of models; bags and fewer members: Caruana, Munson, Niculescu-Mizil 2006, Getting the
    most out of ensemble selection.)

    A score is `metric(mean, targets)` of the float64 mean; scores within 1e-12 are equal. One that is nan is the
    worst; where each member's own is, all members weigh the same. The order of rows changes nothing but roundings
    below 1e-12; another order of members permutes the weights where no own scores are equal.
    """
    own = np.array([metric(member, targets) for member in probs]) * (1 if metric.higher else -1)
    if np.isnan(own).all():
        return uniform_weights(len(probs))
    best_first = np.argsort(-comparable(own).round(DIGITS), kind="stable")
    if bags is None:
        limit = KNOWN if metric.name in judges else ASKED
        bags = _affordable(limit // probs.size)
        best_first = best_first[: _worth_asking(metric, probs)]
    runs = _runs(probs, targets, metric, _bags(best_first, bags), rounds)
    weights = np.zeros(len(probs))
    for run in runs:
        weights += np.bincount(run, minlength=len(probs)) / len(run)
    return shares(weights)


def _runs(probs: Floats, targets: Ints, metric: Metric, bags: list[Ints], rounds: int) -> list[Ints]:
    """The members that each bag's climb selects, with repetitions."""
    if metric.name in countings and len(bags) * len(bags[0]) * probs[0].size <= TOGETHER:
        return hill_climbs(probs, targets, metric, bags, rounds)
    judge = judges.get(metric.name, GenericScorer)(probs, targets, metric)
    return [hill_climb(judge, candidates, rounds) for candidates in bags]


def _affordable(bags: int) -> int:
    return min(bags, BAGS) if bags >= FEWEST else 0


def _worth_asking(metric: Metric, probs: Floats) -> int:
    """How many of the best members are looked at by default."""
    return len(probs) if metric.name in judges else max(FEWEST, ASKED // probs[0].size)


def _bags(best_first: Ints, bags: int) -> list[Ints]:
    """The members of each bag, best first. Places in that order are drawn, so that it matters, not the index."""
    m = len(best_first)
    size = int(np.ceil(SHARE * m))
    if not bags or size == m:
        return [best_first]
    random = np.random.default_rng(SEED)
    return [best_first[np.sort(random.permutation(m)[:size])] for _ in range(bags)]
