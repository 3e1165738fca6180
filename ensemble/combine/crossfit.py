"""Cross-fitting: each fold is predicted by an ensemble that was fitted without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ensemble.combine.fit import Fitted, Pool, Probs
from ensemble.core.errors import DataError
from ensemble.core.predictions import UNKNOWN, Ints, Texts
from ensemble.data.splits import stratified_folds

N_FOLDS = 5
FEW_FOLDS = 3
MANY_NUMBERS = 20_000_000
"""If members x rows x classes exceed this, `auto` compares rules on three folds: 7 fits instead of 16."""
SEED = 0
MOST_REPEATS = 3
ENOUGH_ROWS = 2_000
"""Repeats x rows from which further divisions into folds hardly change the score."""

Progress = Callable[[int, int], None]
"""Called with (fits done, fits in total)."""


def no_progress(done: int, total: int) -> None:
    """A Progress callback that does nothing."""


def progress_counter(progress: Progress, total: int) -> Callable[[], None]:
    """A function that reports one more of `total` steps as done at each call."""
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    return tick


@dataclass(frozen=True)
class Folds:
    """fold: the fold of each row, int64 (n,), -1 without a target.  order: row indices sorted by id, (n,).

    All fits use the rows in this order, so that they do not depend on the order of a file.
    """

    fold: Ints
    order: Ints

    @property
    def names(self) -> list[int]:
        """The fold numbers, ascending."""
        return sorted(set(self.fold.tolist()) - {UNKNOWN})

    def known(self) -> Ints:
        """The rows with a target."""
        return self.without()

    def rows(self, fold: int) -> Ints:
        """The rows of one fold."""
        rows: Ints = self.order[self.fold[self.order] == fold]
        return rows

    def without(self, *folds: int) -> Ints:
        """The rows with a target that are in none of `folds`."""
        rows: Ints = self.order[~np.isin(self.fold[self.order], [UNKNOWN, *folds])]
        return rows


def folds_of(ids: Texts, targets: Ints, groups: Texts | None, seed: int = SEED, most: int = N_FOLDS) -> Ints:
    """The fold of each row, int64 (n,); -1 if the target is unknown. `most` folds, fewer if there are fewer units.

    Depends on ids, targets, groups and seed, not on the order of the rows. Raises DataError for fewer than 2 units.
    """
    known = targets != UNKNOWN
    units = len(set((ids if groups is None else groups)[known].tolist()))
    if units < 2:
        noun = "row" if groups is None else "group"
        raise DataError(
            f"{units} labelled validation {noun} found, at least 2 expected to combine and score;"
            " hold more rows out"
        )
    folds = np.full(len(ids), UNKNOWN, np.int64)
    folds[known] = stratified_folds(
        ids[known], targets[known], min(most, units), seed, None if groups is None else groups[known]
    )
    return folds


def repeated_folds(ids: Texts, targets: Ints, groups: Texts | None, most: int = N_FOLDS) -> list[Folds]:
    """Folds of several seeds: from three for few rows to one for many. Raises DataError."""
    known = int(np.count_nonzero(targets != UNKNOWN))
    repeats = min(MOST_REPEATS, max(1, ENOUGH_ROWS // max(1, known)))
    order = np.argsort(ids, kind="stable")
    return [Folds(folds_of(ids, targets, groups, SEED + repeat, most), order) for repeat in range(repeats)]


@dataclass(frozen=True)
class Crossfitted:
    """probs: float32 (n, k), each row predicted by the fit without its fold.  fits: fold -> fit without that fold.

    Rows without a target are predicted by the fit on all rows, whose key is -1.
    """

    probs: Probs
    fits: dict[int, Fitted]


def crossfitted(decide: Callable[[Ints], Fitted], full: Fitted, pool: Pool, folds: Folds) -> Crossfitted:
    """The rows of each fold predicted by what `decide` fits on the rows of the other folds."""
    fits = {fold: decide(folds.without(fold)) for fold in folds.names}
    return assembled({**fits, UNKNOWN: full}, pool, folds)


def assembled(fits: dict[int, Fitted], pool: Pool, folds: Folds) -> Crossfitted:
    """The predictions of `fits`, each on its own fold."""
    out = np.empty(pool.probs.shape[1:], np.float32)
    for fold, fitted in fits.items():
        fold_rows = folds.rows(fold)
        if len(fold_rows):
            out[fold_rows] = fitted.predict_kept(pool.take(fitted.selection.kept, fold_rows))
    return Crossfitted(out, fits)
