"""A shorter ensemble that is as good: fewer members to run for each image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ensemble.combine.contributions import Without
from ensemble.core.predictions import Floats, Ints, Texts
from ensemble.metrics import Metric
from ensemble.stats.intervals import Against, Difference, against

POINTS = 0.001
"""A score of which more is better may fall by this much: 0.1 point."""
RELATIVE = 0.01
"""A loss, of which less is better, may grow by this part of itself."""
LOOKS = 3
"""Members whose removal is tried afresh in one step, at most."""
PATIENCE = 5
"""Steps in a row that are not as good before the search ends."""

_DIGITS = 9


@dataclass(frozen=True)
class Elimination:
    """dropped: positions of the members that can go, ascending.

    difference, low, high: the score of the rest less that of all, in the metric's own direction, and its 95 %
    interval.  speedup: the time an image took over the time it takes, None where a cost is not known.
    """

    dropped: tuple[int, ...]
    difference: float
    low: float
    high: float
    speedup: float | None
    sentence: str


def eliminate_members(
    metric: Metric,
    whole: Floats,
    without: Without,
    targets: Ints,
    groups: Texts | None,
    costs: Sequence[float | None],
    gains: Sequence[float | None] | None = None,
) -> Elimination | None:
    """The shortest as good ensemble that backward elimination finds; None where no member can go.

    whole: cross-fitted predictions (n, k) of all m members.  targets: (n,), all known.  groups: (n,) or None.
    costs: seconds an image of each member (m,).  gains: each member's gain (m,) where `contributions` has them
    already, which saves m calls of `without`.

    Each step drops the member whose removal costs least; only the few that look cheapest by what they cost when
    last tried are tried again (the lazy evaluation of Minoux 1978, backwards). As good is: within one paired
    standard error of the whole, and at most 0.1 point worse, or 1 % worse where less is better. The rest was
    picked among many on the rows that score it, so its score flatters it a little; the whole's does not.
    """
    if len(costs) < 2:
        return None
    standing, worse_steps = metric(whole, targets), 0
    allowed = POINTS if metric.higher else RELATIVE * abs(standing)
    compared = against(metric, whole, targets, groups)
    best: tuple[tuple[int, ...], Difference] | None = None
    for dropped, rest in _steps(metric, standing, without, targets, costs, gains):
        found = _as_good(metric, compared, rest, targets, standing, allowed)
        best, worse_steps = ((dropped, found), 0) if found else (best, worse_steps + 1)
        if worse_steps == PATIENCE:
            break
    return None if best is None else _described(metric, *best, costs)


def _as_good(
    metric: Metric, compared: Against, rest: Floats, targets: Ints, standing: float, allowed: float
) -> Difference | None:
    """The score of `rest` less `standing`, where it is as good."""
    loss = _loss(metric, standing, rest, targets)
    if loss > round(allowed, _DIGITS):
        return None
    found = compared(rest).opposite()
    return found if loss <= found.se else None


def _steps(
    metric: Metric,
    standing: float,
    without: Without,
    targets: Ints,
    costs: Sequence[float | None],
    gains: Sequence[float | None] | None,
) -> Iterator[tuple[tuple[int, ...], Floats]]:
    """What is dropped after each step, ascending, and the predictions of the rest."""
    known = gains or [None] * len(costs)
    losses = [
        _loss(metric, standing, without((member,)), targets) if gain is None else _number(gain)
        for member, gain in enumerate(known)
    ]
    dropped: tuple[int, ...] = ()

    def order(member: int) -> tuple[float, float, int]:
        # of equal losses the slowest goes, then the last
        return losses[member], -(costs[member] or 0.0), -member

    while len(dropped) < len(costs) - 1:
        left = sorted((j for j in range(len(costs)) if j not in dropped), key=order)
        tried: dict[int, Floats] = {}
        for place, member in enumerate(left[:LOOKS], 1):
            tried[member] = without(tuple(sorted((*dropped, member))))
            losses[member] = _loss(metric, standing, tried[member], targets)
            if place == len(left) or order(member) <= order(left[place]):
                break
        out = min(tried, key=order)
        dropped, standing = tuple(sorted((*dropped, out))), metric(tried[out], targets)
        yield dropped, tried[out]


def _loss(metric: Metric, standing: float, rest: Floats, targets: Ints) -> float:
    change = standing - metric(rest, targets)
    return _number(change if metric.higher else -change)


def _number(loss: float) -> float:
    """Equal losses made equal to the last bit; where the score of the rest is not defined, the member is needed."""
    return math.inf if math.isnan(loss) else round(loss, _DIGITS)


def _described(
    metric: Metric, dropped: tuple[int, ...], found: Difference, costs: Sequence[float | None]
) -> Elimination:
    speedup = _speedup(dropped, costs)
    points = round(100 * found.value, 2) + 0.0  # never -0.00
    loss = f"{metric.name} {round(found.value, 4) + 0.0:+.4f} where less is better"
    change = f"{points:+.2f} points" if metric.higher else loss
    faster = "" if speedup is None or speedup < 1.05 else f", {speedup:.1f} times faster"
    caution = "picked on these very images, which flatters it a little"
    sentence = f"drop {_these(len(dropped))}: {change}{faster} ({caution})"
    return Elimination(dropped, found.value, found.low, found.high, speedup, sentence)


def _these(count: int) -> str:
    return "this one" if count == 1 else f"these {count}"


def _speedup(dropped: tuple[int, ...], costs: Sequence[float | None]) -> float | None:
    known = [cost for cost in costs if cost is not None]
    kept = sum(cost for position, cost in enumerate(costs) if cost is not None and position not in dropped)
    return sum(known) / kept if len(known) == len(costs) and kept > 0 else None
