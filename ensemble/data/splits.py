"""Assignment of rows to splits, as a function of ids, groups and a seed, never of the order of the rows.

Each unit (an item, or all items of a group) is ordered by the SHA-256 of the seed and its name, so that the same
data give the same split on every machine and with every version of every library. Over seeds, every unit has the
same probability of being in a part, so that the expectation of any statistic of a part is that of the whole.

Groups are drawn by the pivotal method (Deville and Tillé 1998, Biometrika 85) with a constant number of rows: two
undecided units exchange probability until one of them is in or out, by amounts whose expectation is zero.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import numpy.typing as npt

from ensemble.core.predictions import Ints, Texts


@dataclass(frozen=True)
class _Unit:
    """key: hash of the seed and the name.  rows: int64, not empty.  stratum: the most common target of the rows."""

    key: bytes
    rows: Ints
    stratum: int

    @property
    def size(self) -> int:
        return len(self.rows)


def stratified_folds(ids: Texts, targets: Ints, n_folds: int, seed: int, groups: Texts | None = None) -> Ints:
    """The fold 0..n_folds-1 of every item, int64 (n,), with each class spread evenly over the folds.

    ids: str (n,).  targets: int64 (n,), -1 is a stratum of its own.  groups: str (n,) or None. A group is never
    divided, and the spread is as even as the groups allow. Large groups are assigned first.
    """
    folds = np.empty(len(ids), np.int64)
    by_class: dict[int, list[int]] = defaultdict(lambda: [0] * n_folds)
    totals = [0] * n_folds
    for unit in _units(ids, targets, seed, groups):
        # the fold with the fewest of this class, then the fewest items, then the first
        load = by_class[unit.stratum]
        fold = min(zip(load, totals, range(n_folds), strict=True))[2]
        folds[unit.rows] = fold
        load[fold] += unit.size
        totals[fold] += unit.size
    # the first fold has the largest group: after a permutation, every group has the same probability for each fold
    return folds if groups is None else _shuffled(n_folds, seed)[folds]


def held_out(
    ids: Texts, targets: Ints, fraction: float, seed: int, groups: Texts | None = None
) -> npt.NDArray[np.bool_]:
    """bool (n,): True for the `fraction` of each class that is held out, at least one item and never all.

    groups: str (n,) or None. A group is never divided. The number of rows then differs from that of `fraction` by
    at most half of the largest group, and for each class by at most a group. Every group of a class has the same
    probability of being held out, whatever its size, except groups of more than half of their class, or of more
    than twice the held-out part of all rows, which are never held out. A class in a single group, or with a single
    item, is not held out.
    """
    units = _units(ids, targets, seed, groups)
    held_out_units = _single_items(units, fraction) if groups is None else _whole_groups(units, fraction, seed)
    mask = np.zeros(len(ids), bool)
    for unit in held_out_units:
        mask[unit.rows] = True
    return mask


def _single_items(units: Sequence[_Unit], fraction: float) -> list[_Unit]:
    """The first items of each class in the order of the hash."""
    selected = []
    for stratum in _strata(units):
        # never all of a class
        selected += stratum[: min(max(1, round(fraction * len(stratum))), len(stratum) - 1)]
    return selected


def _whole_groups(units: Sequence[_Unit], fraction: float, seed: int) -> list[_Unit]:
    strata = _strata(units)
    limit = 2 * fraction * _size(units)
    eligible = [[unit for unit in stratum if unit.size <= min(limit, _size(stratum) / 2)] for stratum in strata]
    drawn = draw(
        [[unit.size for unit in candidates] for candidates in eligible],
        [
            _chance(fraction, _size(candidates), _size(stratum))
            for candidates, stratum in zip(eligible, strata, strict=True)
        ],
        _uniform_numbers(seed),
    )
    selected = []
    for stratum, candidates, flags in zip(strata, eligible, drawn, strict=True):
        held_out_units = [unit for unit, is_drawn in zip(candidates, flags, strict=True) if is_drawn]
        if len(held_out_units) == len(stratum):
            held_out_units = held_out_units[:-1]  # never all of a class; the smallest group is the last one
        selected += held_out_units or _at_least_one(stratum, fraction)
    return selected


def _chance(fraction: float, eligible: int, total: int) -> float:
    """Probability of each eligible group of a class; at most 0.5 if other groups are too large."""
    return min(max(fraction, 0.5), fraction * total / eligible) if eligible else 0.0


def _at_least_one(stratum: Sequence[_Unit], fraction: float) -> list[_Unit]:
    """A group of a class of which none was drawn: the first of at most twice its share, otherwise the smallest."""
    if len(stratum) < 2:
        return []
    limit = max(2 * fraction * _size(stratum), min(unit.size for unit in stratum))
    return [min((unit for unit in stratum if unit.size <= limit), key=lambda unit: unit.key)]


def _units(ids: Texts, targets: Ints, seed: int, groups: Texts | None) -> list[_Unit]:
    """Every unit, large groups first, then in the order of the hash of seed and name."""
    names = ids if groups is None else groups
    members: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names.tolist()):
        members[name].append(row)
    labels = targets.tolist()
    units = []
    for name, rows in members.items():
        key = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
        stratum = labels[rows[0]] if len(rows) == 1 else _most_common([labels[row] for row in rows])
        units.append(_Unit(key, np.array(rows, np.int64), stratum))
    return sorted(units, key=lambda unit: (-unit.size, unit.key))


def _strata(units: Sequence[_Unit]) -> list[list[_Unit]]:
    """The units of each class, in their order; classes in the order of their first unit."""
    strata: dict[int, list[_Unit]] = defaultdict(list)
    for unit in units:
        strata[unit.stratum].append(unit)
    return list(strata.values())


def _size(units: Sequence[_Unit]) -> int:
    return sum(unit.size for unit in units)


def _most_common(labels: list[int]) -> int:
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label))


def _uniform_numbers(seed: int) -> Iterator[float]:
    """Numbers in [0, 1) from SHA-256, the same on every machine."""
    for index in count():
        digest = hashlib.sha256(f"{seed}\0number\0{index}".encode()).digest()
        yield int.from_bytes(digest[:6], "big") / 2**48


def _shuffled(n: int, seed: int) -> Ints:
    """A random permutation of 0..n-1, int64 (n,)."""
    numbers = _uniform_numbers(seed)
    return np.argsort([next(numbers) for _ in range(n)], kind="stable").astype(np.int64)


@dataclass
class _Candidate:
    """An undecided unit. position: (stratum, index).  chance: probability of being drawn, 0 to 1."""

    position: tuple[int, int]
    size: int
    chance: float


def draw(sizes: Sequence[Sequence[int]], chances: Sequence[float], numbers: Iterator[float]) -> list[list[bool]]:
    """For each stratum, which of its units are drawn.

    sizes: rows of each unit, by stratum, positive; units are decided in this order.  chances: of every unit of a
    stratum.  numbers: random, uniform in [0, 1), as many as needed.
    Over random numbers each unit is drawn with the chance of its stratum. The number of drawn rows differs from
    sum(chance * size) by at most half of the largest unit in total, and by at most a unit in each stratum. Only the
    last unit, which is rounded if a random decision could break this, may be drawn slightly more or less often.
    """
    drawn = [[False] * len(stratum) for stratum in sizes]
    undecided = []
    for index, stratum in enumerate(sizes):
        units = [_Candidate((index, unit_index), size, chances[index]) for unit_index, size in enumerate(stratum)]
        undecided += _exchange(units, drawn, numbers)
    # the last undecided unit of each stratum, so that their errors do not add up; the largest first
    undecided.sort(key=lambda unit: -unit.size)
    largest = max((size for stratum in sizes for size in stratum), default=0)
    for unit in _exchange(undecided, drawn, numbers):
        _set_drawn(drawn, unit, _rounded(unit, largest, next(numbers)))
    return drawn


def _exchange(units: Sequence[_Candidate], drawn: list[list[bool]], numbers: Iterator[float]) -> list[_Candidate]:
    """Decide all units but at most one, which is returned."""
    undecided: list[_Candidate] = []
    for unit in units:
        pair = [*undecided, unit]
        if len(pair) == 2:
            _exchange_pair(pair[0], pair[1], next(numbers))
        undecided = [candidate for candidate in pair if 0 < candidate.chance < 1]
        for candidate in pair:
            _set_drawn(drawn, candidate, candidate.chance == 1)
    return undecided


def _exchange_pair(first: _Candidate, second: _Candidate, number: float) -> None:
    """Move rows of probability between the two until one of them is 0 or 1; sum(chance * size) is constant."""
    to_first = min((1 - first.chance) * first.size, second.chance * second.size)
    to_second = min(first.chance * first.size, (1 - second.chance) * second.size)
    # the probabilities of the two moves are such that neither chance changes in expectation
    if number * (to_first + to_second) < to_second:
        _move(second, first, to_first)
    else:
        _move(first, second, to_second)


def _move(source: _Candidate, target: _Candidate, rows: float) -> None:
    source.chance = _snapped(source.chance - rows / source.size)
    target.chance = _snapped(target.chance + rows / target.size)


def _snapped(chance: float) -> float:
    """`chance`, rounded to 0 or 1 if it differs by a rounding error only."""
    return 0.0 if chance < 1e-9 else 1.0 if chance > 1 - 1e-9 else chance


def _rounded(unit: _Candidate, largest: int, number: float) -> bool:
    """A random decision if both results are within half of the largest unit, otherwise the nearer one."""
    if max(unit.chance, 1 - unit.chance) * unit.size <= largest / 2:
        return number < unit.chance
    return unit.chance >= 0.5


def _set_drawn(drawn: list[list[bool]], unit: _Candidate, is_drawn: bool) -> None:
    stratum, index = unit.position
    drawn[stratum][index] = is_drawn
