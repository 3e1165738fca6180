"""Greedy ensemble selection (Caruana et al. 2004): hill climbing on bags of members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ensemble.combine.arrays import shares, uniform_weights
from ensemble.combine.greedy.label_scorers import Labels, LabelScorer, label_counts
from ensemble.combine.greedy.scorers import BrierScorer, GenericScorer, LogLossScorer
from ensemble.core.predictions import Floats, Ints, Wide
from ensemble.metrics import Metric

TIE = 1e-12
"""Scores closer than this are equal: sums differ by as much with the order of their terms."""


class RunningSum(Protocol):
    """A running sum of members. The sign of scores makes greater better; nan if the metric is undefined."""

    def add(self, member: int) -> None:
        """Add `member` once more."""

    def score(self) -> float:
        """The score of the current mean."""

    def scores(self) -> Wide:
        """The score of the mean after adding each candidate in turn, float64 (candidates,)."""


class Scorer(Protocol):
    """Quantities computed once for a metric and shared by all climbs."""

    def begin(self, candidates: Ints) -> RunningSum:
        """An empty sum, to which any of `candidates` may be added."""


def hill_climb(scorer: Scorer, candidates: Ints, rounds: int) -> Ints:
    """Members in the order in which they are added, cut to the best prefix of the sequence.

    candidates: the members of this bag, best first; ties go to the earlier one. Starts from the best prefix of
    `candidates`, and from its first member alone, since members of a long prefix are never removed.
    """
    gains = _prefixes(scorer, candidates[:rounds])
    starts = dict.fromkeys((earliest_best(gains) + 1, 1))
    climbs = [_climb_from(scorer, candidates, gains[:start], rounds) for start in starts]
    return climbs[earliest_best([score for score, _ in climbs])][1]


def _climb_from(scorer: Scorer, candidates: Ints, gains: list[float], rounds: int) -> tuple[float, Ints]:
    """The best score and its sequence, starting from the prefix of `candidates` whose scores are `gains`."""
    kept = len(gains)
    sequence, scores = candidates[:kept].tolist(), list(gains)
    total = scorer.begin(candidates)
    for member in sequence:
        total.add(member)
    selected = np.arange(len(candidates)) < kept
    for _ in range(rounds):
        tried = comparable(total.scores())
        best = pick(tried, selected)
        selected[best] = True
        total.add(int(candidates[best]))
        sequence.append(int(candidates[best]))
        scores.append(float(tried[best]))
    best = earliest_best(scores)
    return scores[best], np.array(sequence[: best + 1])


def _prefixes(scorer: Scorer, first: Ints) -> list[float]:
    total, scores = scorer.begin(first), []
    for member in first.tolist():
        total.add(member)
        scores.append(total.score())
    return [float(score) for score in comparable(np.array(scores))]


def comparable(scores: Wide) -> Wide:
    """The scores with -inf instead of nan."""
    return np.where(np.isnan(scores), -np.inf, scores)


def pick(scores: Wide, selected: npt.NDArray[np.bool_]) -> int:
    """The index of the best candidate; ties go to one that is already selected, then to the earlier one."""
    tied = scores >= scores.max() - TIE
    return int(np.argmax(tied & selected if (tied & selected).any() else tied))


def earliest_best(scores: Sequence[float] | Wide) -> int:
    """The first index whose score is within TIE of the best."""
    best = max(scores) - TIE
    return next(i for i, score in enumerate(scores) if score >= best)


def hill_climbs(probs: Floats, targets: Ints, metric: Metric, bags: list[Ints], rounds: int) -> list[Ints]:
    """`hill_climb` for each of `bags`, all at once, for a metric of `label_counts`; bags have equal sizes."""
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
    selected = np.arange(candidates.shape[1]) < np.array([start for _, start in climbs])[:, None]
    for _ in range(rounds):
        tried = table.scores(sums[:, :, None] + added)
        best = np.array([pick(*climb) for climb in zip(tried, selected, strict=True)])
        for index, (position, sequence, score) in enumerate(zip(best, sequences, scores, strict=True)):
            selected[index, position] = True
            sequence.append(int(choices[index, position]))
            score.append(float(tried[index, position]))
        sums += added[:, np.arange(len(climbs)), best]
    return [
        _best_of([index for index in range(len(climbs)) if of_bag[index] == bag], sequences, scores)
        for bag in range(len(bags))
    ]


def _best_of(climbs: list[int], sequences: list[list[int]], scores: list[list[float]]) -> Ints:
    """The best prefix of the best of `climbs`."""
    ends = [earliest_best(scores[index]) for index in climbs]
    best = earliest_best([scores[index][end] for index, end in zip(climbs, ends, strict=True)])
    return np.array(sequences[climbs[best]][: ends[best] + 1])


class _Table:
    """members: float64 (k, m, n), classes first, so that every operation runs along long contiguous rows."""

    def __init__(self, probs: Floats, targets: Ints, metric: Metric) -> None:
        self.members = np.ascontiguousarray(probs.transpose(2, 0, 1), np.float64)
        self.targets, self.k = targets.astype(np.int32), probs.shape[2]
        self.counts, self.actual = label_counts[metric.name], np.bincount(targets, minlength=self.k)

    def scores(self, sums: Wide) -> Wide:
        """The score (a, b) of each of the sums (k, a, b, n)."""
        labels = _argmax(sums.reshape(self.k, -1, len(self.targets)))
        tallies = self.counts.tally(labels, self.targets, self.k)
        return self.counts.score(tallies, self.actual).reshape(sums.shape[1:3])


def _argmax(sums: Wide) -> Labels:
    """The class of the largest sum, int32 (q, n): sums (k, q, n); ties go to the lower class."""
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
"""Number of bags if they are cheap; fewer than FEWEST do not make up for the members that each leaves out."""

FEWEST = 3
SHARE = 0.75
"""Fraction of the members in a bag: with half of them, irreplaceable members are left out too often."""

SEED = 0

DIGITS = 12
"""Decimals of the members' own scores, so that rounding errors do not decide their order."""

TOGETHER = 300_000
"""Number of probabilities in all bags up to which all climbs run at once, see `hill_climbs`."""

scorer_classes: dict[str, Callable[[Floats, Ints, Metric], Scorer]] = {
    "accuracy": LabelScorer,
    "balanced_accuracy": LabelScorer,
    "macro_f1": LabelScorer,
    "kappa": LabelScorer,
    "log_loss": LogLossScorer,
    "brier": BrierScorer,
}
"""Metrics with a fast scorer; the others are evaluated on every candidate mean by GenericScorer."""

SCORER_BUDGET, GENERIC_BUDGET = 50_000_000, 1_000_000
"""Default limits of the number of probabilities in all bags, with a fast scorer and with GenericScorer."""


def greedy_weights(
    probs: Floats, targets: Ints, metric: Metric, *, rounds: int = ROUNDS, bags: int | None = None
) -> Wide:
    """The weight of each member, float64 (m,), summing to one: its frequency in the selected ensemble.

    probs: float32 (m, n, k).  targets: int64 (n,), n at least 1, all known.
    rounds: number of members added, and the maximum number in the sorted initialisation.
    bags: number of bags, each a random three quarters of the members, whose weights are averaged; 0 is one climb
    with all members. None is BAGS for up to 5 million probabilities in `probs`, fewer for more and none above 16
    million. A metric without a fast scorer gets a fiftieth of that, and only the best members that make up a
    million probabilities, at least FEWEST.

    One climb: members are sorted by their own score, ties by index, and the ensemble starts as the best prefix of
    that order. In each round the member is added with which the mean of all added members scores best; ties go to
    a member already selected, then to the better own score, then to the lower index. The ensemble is the best
    prefix of the sequence, the shortest if several are best. The climb is repeated from the best member alone, and
    the better of the two is returned. (Caruana, Niculescu-Mizil, Crew, Ksikes 2004, Ensemble selection from
    libraries of models; bags and fewer members: Caruana, Munson, Niculescu-Mizil 2006, Getting the most out of
    ensemble selection.)

    A score is `metric(mean, targets)` of the float64 mean; scores within 1e-12 are equal. nan is the worst score;
    if all members' own scores are nan, the weights are equal. The order of rows changes only rounding errors below
    1e-12; another order of members permutes the weights, unless own scores are equal.
    """
    own_scores = np.array([metric(member, targets) for member in probs]) * (1 if metric.higher else -1)
    if np.isnan(own_scores).all():
        return uniform_weights(len(probs))
    best_first = np.argsort(-comparable(own_scores).round(DIGITS), kind="stable")
    if bags is None:
        limit = SCORER_BUDGET if metric.name in scorer_classes else GENERIC_BUDGET
        bags = _n_bags(limit // probs.size)
        best_first = best_first[: _n_candidates(metric, probs)]
    selections = _selections(probs, targets, metric, _bags(best_first, bags), rounds)
    weights = np.zeros(len(probs))
    for selection in selections:
        weights += np.bincount(selection, minlength=len(probs)) / len(selection)
    return shares(weights)


def _selections(probs: Floats, targets: Ints, metric: Metric, bags: list[Ints], rounds: int) -> list[Ints]:
    """The members selected by each bag's climb, with repetitions."""
    if metric.name in label_counts and len(bags) * len(bags[0]) * probs[0].size <= TOGETHER:
        return hill_climbs(probs, targets, metric, bags, rounds)
    scorer = scorer_classes.get(metric.name, GenericScorer)(probs, targets, metric)
    return [hill_climb(scorer, candidates, rounds) for candidates in bags]


def _n_bags(bags: int) -> int:
    return min(bags, BAGS) if bags >= FEWEST else 0


def _n_candidates(metric: Metric, probs: Floats) -> int:
    """The default number of the best members that are candidates."""
    return len(probs) if metric.name in scorer_classes else max(FEWEST, GENERIC_BUDGET // probs[0].size)


def _bags(best_first: Ints, bags: int) -> list[Ints]:
    """The members of each bag, best first. Ranks are drawn, so that bags do not depend on the order of members."""
    m = len(best_first)
    size = int(np.ceil(SHARE * m))
    if not bags or size == m:
        return [best_first]
    random = np.random.default_rng(SEED)
    return [best_first[np.sort(random.permutation(m)[:size])] for _ in range(bags)]
