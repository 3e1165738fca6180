"""Which rows go where: a function of ids, groups and seed, never of the order of the rows.

Each unit (an item, or all items of one group) has a place given by the sha256 of the seed and its name, so
the same data gives the same split on every machine, in every version of every library.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict

import numpy as np
import numpy.typing as npt

from ensemble.predictions import Ints, Texts


def stratified_folds(ids: Texts, targets: Ints, n_folds: int, seed: int, groups: Texts | None = None) -> Ints:
    """The fold 0..n_folds-1 of every item, int64 (n,), each class spread evenly over the folds.

    ids: str (n,).  targets: int64 (n,), -1 is a stratum of its own.  groups: str (n,) or None; a group is
    never divided, and then the spread is as even as the groups allow.
    """
    folds = np.empty(len(ids), np.int64)
    by_class: dict[int, list[int]] = defaultdict(lambda: [0] * n_folds)
    totals = [0] * n_folds
    for stratum, rows in _units(ids, targets, seed, groups):
        # the fold with the fewest of this class, then the fewest items, then the first
        load = by_class[stratum]
        fold = min(zip(load, totals, range(n_folds), strict=True))[2]
        folds[rows] = fold
        load[fold] += len(rows)
        totals[fold] += len(rows)
    return folds


def held_out(
    ids: Texts, targets: Ints, fraction: float, seed: int, groups: Texts | None = None
) -> npt.NDArray[np.bool_]:
    """bool (n,): True for the `fraction` of each class that is held out, at least one item and never all.

    A class all in one group cannot be divided and stays; so does a class of one item.
    """
    mask = np.zeros(len(ids), bool)
    strata: dict[int, list[Ints]] = defaultdict(list)
    for stratum, rows in _units(ids, targets, seed, groups):
        strata[stratum].append(rows)
    for units in strata.values():
        size = sum(len(rows) for rows in units)
        quota, taken = max(1, round(fraction * size)), 0
        for rows in units[:-1]:  # never all of a class
            if taken >= quota:
                break
            if taken and taken + len(rows) - quota > quota - taken:
                continue  # a large group that would overshoot by more than it now lacks
            mask[rows] = True
            taken += len(rows)
    return mask


def _units(ids: Texts, targets: Ints, seed: int, groups: Texts | None) -> list[tuple[int, Ints]]:
    """(stratum, rows) of every unit, large groups first, then in the order of the hash of seed and name."""
    names = ids if groups is None else groups
    members: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names.tolist()):
        members[name].append(row)
    labels = targets.tolist()
    keyed = []
    for name, rows in members.items():
        place = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
        stratum = labels[rows[0]] if len(rows) == 1 else _most_common([labels[row] for row in rows])
        keyed.append((-len(rows), place, stratum, np.array(rows, np.int64)))
    keyed.sort(key=lambda unit: unit[:2])
    return [(stratum, rows) for _, _, stratum, rows in keyed]


def _most_common(labels: list[int]) -> int:
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label))
