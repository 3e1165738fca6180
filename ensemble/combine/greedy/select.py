"""From predictions to weights: which judge, which members a bag sees, and the mean over bags."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ensemble.combine.arrays import Wide, shares, uniform_weights
from ensemble.combine.greedy.anything import Anything
from ensemble.combine.greedy.climb import Judge, climb, comparable
from ensemble.combine.greedy.counting import countings
from ensemble.combine.greedy.decisions import Decisions
from ensemble.combine.greedy.losses import Quadratic, Surprise
from ensemble.combine.greedy.together import climb_together
from ensemble.metrics import Metric
from ensemble.predictions import Floats, Ints

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

judges: dict[str, Callable[[Floats, Ints, Metric], Judge]] = {
    "accuracy": Decisions,
    "balanced_accuracy": Decisions,
    "macro_f1": Decisions,
    "kappa": Decisions,
    "log_loss": Surprise,
    "brier": Quadratic,
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
        return climb_together(probs, targets, metric, bags, rounds)
    judge = judges.get(metric.name, Anything)(probs, targets, metric)
    return [climb(judge, candidates, rounds) for candidates in bags]


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
