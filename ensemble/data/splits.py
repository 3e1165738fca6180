"""Which rows go to which split: functions of ids, groups and a seed, never of row order.

Each unit (an item, or all items of one group) has a place given by the sha256 of the seed and its name, so
the same data gives the same split on every machine, in every version of every library. Over seeds every unit
is as likely as any other to be in a part, so that the expectation of any statistic of a part is that of the whole.

The pivotal method (Deville and Tillé 1998, Biometrika 85) with the number of rows held constant: two undecided
units exchange probability until one of them is in or out, by amounts whose expectation is zero.
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
    """place: the hash of the seed and the name.  rows: int64, not empty.  stratum: the target of most of them."""

    place: bytes
    rows: Ints
    stratum: int

    @property
    def size(self) -> int:
        return len(self.rows)


def stratified_folds(ids: Texts, targets: Ints, n_folds: int, seed: int, groups: Texts | None = None) -> Ints:
    """The fold 0..n_folds-1 of every item, int64 (n,), each class spread evenly over the folds.

    ids: str (n,).  targets: int64 (n,), -1 is a stratum of its own.  groups: str (n,) or None; a group is
    never divided, and then the spread is as even as the groups allow. Large groups are dealt out first.
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
    # the first fold has the largest group: with numbers drawn anew, every group is as likely in each fold
    return folds if groups is None else _shuffled(n_folds, seed)[folds]


def held_out(
    ids: Texts, targets: Ints, fraction: float, seed: int, groups: Texts | None = None
) -> npt.NDArray[np.bool_]:
    """bool (n,): True for the `fraction` of each class that is held out, at least one item and never all.

    groups: str (n,) or None; a group is never divided. Then the number of rows is that of `fraction` to within
    half of the largest group, each class to within a group, and every group is as likely to be held out as any
    other of its class, whatever its size: but for groups of more than half of their class, or of twice what is held
    out of all, which stay in. A class all in one group cannot be divided and stays; so does a class of one item.
    """
    units = _units(ids, targets, seed, groups)
    kept_out = _single_items(units, fraction) if groups is None else _whole_groups(units, fraction, seed)
    mask = np.zeros(len(ids), bool)
    for unit in kept_out:
        mask[unit.rows] = True
    return mask


def _single_items(units: Sequence[_Unit], fraction: float) -> list[_Unit]:
    """The first items of each class in the order of the hash."""
    taken = []
    for stratum in _strata(units):
        # never all of a class
        taken += stratum[: min(max(1, round(fraction * len(stratum))), len(stratum) - 1)]
    return taken


def _whole_groups(units: Sequence[_Unit], fraction: float, seed: int) -> list[_Unit]:
    strata = _strata(units)
    limit = 2 * fraction * _size(units)
    eligible = [[unit for unit in stratum if unit.size <= min(limit, _size(stratum) / 2)] for stratum in strata]
    drawn = draw(
        [[unit.size for unit in some] for some in eligible],
        [_chance(fraction, _size(some), _size(whole)) for some, whole in zip(eligible, strata, strict=True)],
        _uniform_numbers(seed),
    )
    taken = []
    for stratum, some, chosen in zip(strata, eligible, drawn, strict=True):
        kept_out = [unit for unit, is_drawn in zip(some, chosen, strict=True) if is_drawn]
        if len(kept_out) == len(stratum):
            kept_out = kept_out[:-1]  # never all of a class; the smallest group comes last
        taken += kept_out or _at_least_one(stratum, fraction)
    return taken


def _chance(fraction: float, eligible: int, whole: int) -> float:
    """Of each eligible group of a class; never more than half of them where other groups are too large."""
    return min(max(fraction, 0.5), fraction * whole / eligible) if eligible else 0.0


def _at_least_one(stratum: Sequence[_Unit], fraction: float) -> list[_Unit]:
    """A group for a class of which none was drawn: the first of at most twice its share, else the smallest."""
    if len(stratum) < 2:
        return []
    most = max(2 * fraction * _size(stratum), min(unit.size for unit in stratum))
    return [min((unit for unit in stratum if unit.size <= most), key=lambda unit: unit.place)]


def _units(ids: Texts, targets: Ints, seed: int, groups: Texts | None) -> list[_Unit]:
    """Every unit, large groups first, then in the order of the hash of seed and name."""
    names = ids if groups is None else groups
    members: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names.tolist()):
        members[name].append(row)
    labels = targets.tolist()
    units = []
    for name, rows in members.items():
        place = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
        stratum = labels[rows[0]] if len(rows) == 1 else _most_common([labels[row] for row in rows])
        units.append(_Unit(place, np.array(rows, np.int64), stratum))
    return sorted(units, key=lambda unit: (-unit.size, unit.place))


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
    """Numbers in [0, 1) from sha256, the same on every machine."""
    for index in count():
        digest = hashlib.sha256(f"{seed}\0number\0{index}".encode()).digest()
        yield int.from_bytes(digest[:6], "big") / 2**48


def _shuffled(n: int, seed: int) -> Ints:
    """The numbers 0..n-1 in a random order, int64 (n,)."""
    numbers = _uniform_numbers(seed)
    return np.argsort([next(numbers) for _ in range(n)], kind="stable").astype(np.int64)


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
