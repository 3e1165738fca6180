"""Backward elimination of members without loss of score, to reduce the prediction time per image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ensemble.combine.contributions import PredictWithout
from ensemble.core.estimate import Estimate
from ensemble.core.predictions import Floats, Ints, Texts
from ensemble.metrics import Metric
from ensemble.stats.intervals import Difference, DifferenceFunction, prepared_difference

MAX_SCORE_LOSS = 0.001
"""Largest accepted decrease of a score for which greater is better: 0.1 point."""
MAX_RELATIVE_LOSS = 0.01
"""Largest accepted relative increase of a loss."""
CANDIDATES_PER_STEP = 3
"""Maximum number of members whose removal is evaluated again in one step."""
PATIENCE = 5
"""Consecutive steps with too large a loss after which the search ends."""

_DIGITS = 9


@dataclass(frozen=True)
class Elimination:
    """dropped: positions of the members to drop, ascending.

    difference: the score of the remaining members minus that of all, in the metric's own direction.  speedup: time
    per image before over time after; None if a cost is unknown.
    """

    dropped: tuple[int, ...]
    difference: Estimate
    speedup: float | None
    sentence: str


def eliminate_members(
    metric: Metric,
    ensemble_probs: Floats,
    predict_without: PredictWithout,
    targets: Ints,
    groups: Texts | None,
    costs: Sequence[float | None],
    gains: Sequence[float | None] | None = None,
) -> Elimination | None:
    """The smallest equally good ensemble found by backward elimination; None if no member can be dropped.

    ensemble_probs: cross-fitted predictions (n, k) of all m members.  targets: (n,), all known.  groups: (n,) or
    None.  costs: seconds per image of each member (m,).  gains: each member's gain (m,), if already computed by
    `contributions`, which saves m calls of `predict_without`.

    Each step drops the member whose removal loses least; only the few with the smallest loss when last evaluated
    are evaluated again (the lazy evaluation of Minoux 1978, applied backwards). Equally good means: within one
    paired standard error of all members, and at most 0.1 point worse, or 1 % worse if less is better. The remaining
    members are selected on the rows that score them, so their score is slightly optimistic, unlike that of all.
    """
    if len(costs) < 2:
        return None
    score, worse_steps = metric(ensemble_probs, targets), 0
    allowed = MAX_SCORE_LOSS if metric.higher else MAX_RELATIVE_LOSS * abs(score)
    difference_to = prepared_difference(metric, ensemble_probs, targets, groups)
    best: tuple[tuple[int, ...], Difference] | None = None
    for dropped, reduced in _steps(metric, score, predict_without, targets, costs, gains):
        gap = _difference_if_as_good(metric, difference_to, reduced, targets, score, allowed)
        best, worse_steps = ((dropped, gap), 0) if gap else (best, worse_steps + 1)
        if worse_steps == PATIENCE:
            break
    return None if best is None else _elimination(metric, *best, costs)


def _difference_if_as_good(
    metric: Metric, difference_to: DifferenceFunction, reduced: Floats, targets: Ints, score: float, allowed: float
) -> Difference | None:
    """The score of `reduced` minus that of all members; None if it is not equally good."""
    loss = _loss(metric, score, reduced, targets)
    if loss > round(allowed, _DIGITS):
        return None
    gap = difference_to(reduced).opposite()
    return gap if loss <= gap.se else None


def _steps(
    metric: Metric,
    score: float,
    predict_without: PredictWithout,
    targets: Ints,
    costs: Sequence[float | None],
    gains: Sequence[float | None] | None,
) -> Iterator[tuple[tuple[int, ...], Floats]]:
    """After each step the dropped positions, ascending, and the predictions of the remaining members."""
    known_gains = gains or [None] * len(costs)
    losses = [
        _loss(metric, score, predict_without((member,)), targets) if gain is None else _rounded_loss(gain)
        for member, gain in enumerate(known_gains)
    ]
    dropped: tuple[int, ...] = ()

    def order(member: int) -> tuple[float, float, int]:
        # of equal losses the slowest member first, then the last position
        return losses[member], -(costs[member] or 0.0), -member

    while len(dropped) < len(costs) - 1:
        remaining = sorted((j for j in range(len(costs)) if j not in dropped), key=order)
        tried: dict[int, Floats] = {}
        for count, member in enumerate(remaining[:CANDIDATES_PER_STEP], 1):
            tried[member] = predict_without(tuple(sorted((*dropped, member))))
            losses[member] = _loss(metric, score, tried[member], targets)
            if count == len(remaining) or order(member) <= order(remaining[count]):
                break
        removed = min(tried, key=order)
        dropped, score = tuple(sorted((*dropped, removed))), metric(tried[removed], targets)
        yield dropped, tried[removed]


def _loss(metric: Metric, score: float, reduced: Floats, targets: Ints) -> float:
    change = score - metric(reduced, targets)
    return _rounded_loss(change if metric.higher else -change)


def _rounded_loss(loss: float) -> float:
    """The loss rounded, so that equal losses compare equal; inf if the reduced score is undefined (nan)."""
    return math.inf if math.isnan(loss) else round(loss, _DIGITS)


def _elimination(
    metric: Metric, dropped: tuple[int, ...], gap: Difference, costs: Sequence[float | None]
) -> Elimination:
    speedup = _speedup(dropped, costs)
    points = round(100 * gap.value, 2) + 0.0  # + 0.0 avoids -0.00
    loss = f"{metric.name} {round(gap.value, 4) + 0.0:+.4f} where less is better"
    change = f"{points:+.2f} points" if metric.higher else loss
    faster = "" if speedup is None or speedup < 1.05 else f", {speedup:.1f} times faster"
    caution = "picked on these very images, which flatters it a little"
    sentence = f"drop {_these(len(dropped))}: {change}{faster} ({caution})"
    return Elimination(dropped, gap.estimate, speedup, sentence)


def _these(count: int) -> str:
    return "this one" if count == 1 else f"these {count}"


def _speedup(dropped: tuple[int, ...], costs: Sequence[float | None]) -> float | None:
    known_costs = [cost for cost in costs if cost is not None]
    remaining_seconds = sum(
        cost for position, cost in enumerate(costs) if cost is not None and position not in dropped
    )
    return (
        sum(known_costs) / remaining_seconds if len(known_costs) == len(costs) and remaining_seconds > 0 else None
    )
