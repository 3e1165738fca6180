"""Draw whole units so that every unit is equally likely and the number of rows is as asked.

The pivotal method (Deville and Tillé 1998, Biometrika 85) with the number of rows held constant: two undecided
units exchange probability until one of them is in or out, by amounts whose expectation is zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass
class _Candidate:
    """A unit that is not yet decided. place: (stratum, position).  chance: of being drawn, 0 to 1."""

    place: tuple[int, int]
    size: int
    chance: float


def draw(sizes: Sequence[Sequence[int]], chances: Sequence[float], numbers: Iterator[float]) -> list[list[bool]]:
    """For each stratum, which of its units are drawn.

    sizes: rows of each unit, by stratum, positive; units that come first are decided first.  chances: of every
    unit of a stratum.  numbers: random ones, uniform in [0, 1), as many as are wanted.
    Over random numbers each unit is drawn with its stratum's chance. The rows drawn are sum(chance * size) to
    within half of the largest unit over all strata, and to within a unit in each. Only the last unit of all, which
    is rounded where a coin could break this, may be drawn a little more or less often.
    """
    drawn = [[False] * len(stratum) for stratum in sizes]
    left = []
    for index, stratum in enumerate(sizes):
        units = [_Candidate((index, place), size, chances[index]) for place, size in enumerate(stratum)]
        left += _exchange(units, drawn, numbers)
    # the last undecided unit of each stratum, so that their errors do not add up; the largest first
    left.sort(key=lambda unit: -unit.size)
    largest = max((size for stratum in sizes for size in stratum), default=0)
    for unit in _exchange(left, drawn, numbers):
        _place(drawn, unit, _rounded(unit, largest, next(numbers)))
    return drawn


def _exchange(units: Sequence[_Candidate], drawn: list[list[bool]], numbers: Iterator[float]) -> list[_Candidate]:
    """Decides all units but at most one, which is given back."""
    undecided: list[_Candidate] = []
    for unit in units:
        pair = [*undecided, unit]
        if len(pair) == 2:
            _pair(pair[0], pair[1], next(numbers))
        undecided = [each for each in pair if 0 < each.chance < 1]
        for each in pair:
            _place(drawn, each, each.chance == 1)
    return undecided


def _pair(first: _Candidate, second: _Candidate, number: float) -> None:
    """Moves rows of chance between the two until one of them is 0 or 1; the sum of chance * size stays."""
    to_first = min((1 - first.chance) * first.size, second.chance * second.size)
    to_second = min(first.chance * first.size, (1 - second.chance) * second.size)
    # the probabilities of the two moves are such that neither chance changes in expectation
    if number * (to_first + to_second) < to_second:
        _move(second, first, to_first)
    else:
        _move(first, second, to_second)


def _move(giver: _Candidate, taker: _Candidate, rows: float) -> None:
    giver.chance = _clean(giver.chance - rows / giver.size)
    taker.chance = _clean(taker.chance + rows / taker.size)


def _clean(chance: float) -> float:
    """`chance`, 0 or 1 where only rounding keeps it from that."""
    return 0.0 if chance < 1e-9 else 1.0 if chance > 1 - 1e-9 else chance


def _rounded(unit: _Candidate, largest: int, number: float) -> bool:
    """A coin where both answers are within half of the largest unit, else the nearer."""
    if max(unit.chance, 1 - unit.chance) * unit.size <= largest / 2:
        return number < unit.chance
    return unit.chance >= 0.5


def _place(drawn: list[list[bool]], unit: _Candidate, is_drawn: bool) -> None:
    stratum, place = unit.place
    drawn[stratum][place] = is_drawn
