"""Predictions for rows that had no part in the decisions behind them."""

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
"""Where members times rows times classes exceed this, a tournament makes do with three folds: 7 fits, not 16."""
SEED = 0
MOST_REPEATS = 3
ENOUGH_ROWS = 2_000
"""Where repeats times rows come to this, other folds would hardly move the score."""

Progress = Callable[[int, int], None]
"""Told (done, of how many)."""


def no_progress(done: int, total: int) -> None:
    """Is told of progress and does nothing."""


def counted(progress: Progress, total: int) -> Callable[[], None]:
    """A function that says, whenever it is called, that one more of `total` is done."""
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    return tick


@dataclass(frozen=True)
class Folds:
    """The fold of every row, int64 (n,), -1 without a target; and all rows in the order of their ids.

    What is decided on rows is decided in that order, so that it never depends on the order of a file.
    """

    fold: Ints
    order: Ints

    @property
    def names(self) -> list[int]:
        """The folds that there are."""
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
    """The fold of every row, int64 (n,); -1 where the target is unknown. `most` folds, fewer for fewer units.

    A function of ids, targets, groups and seed, never of the order of the rows. Raises DataError for one unit.
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
    """Folds of several seeds: three where rows are few, one where they are many. Raises DataError."""
    known = int(np.count_nonzero(targets != UNKNOWN))
    repeats = min(MOST_REPEATS, max(1, ENOUGH_ROWS // max(1, known)))
    order = np.argsort(ids, kind="stable")
    return [Folds(folds_of(ids, targets, groups, SEED + one, most), order) for one in range(repeats)]


@dataclass(frozen=True)
class Crossfitted:
    """probs: float32 (n, k), each row predicted by what was decided without its fold.  fits: that, by fold.

    Rows without a target are predicted by the fit of all, which is filed under -1.
    """

    probs: Probs
    fits: dict[int, Fitted]


def crossfitted(decide: Callable[[Ints], Fitted], full: Fitted, pool: Pool, folds: Folds) -> Crossfitted:
    """The rows of each fold predicted by what `decide` makes of the rows of the others."""
    fits = {fold: decide(folds.without(fold)) for fold in folds.names}
    return assembled({**fits, UNKNOWN: full}, pool, folds)


def assembled(fits: dict[int, Fitted], pool: Pool, folds: Folds) -> Crossfitted:
    """The predictions of `fits`, each for its own fold."""
    out = np.empty(pool.probs.shape[1:], np.float32)
    for fold, fitted in fits.items():
        here = folds.rows(fold)
        if len(here):
            out[here] = fitted.predict_kept(pool.taken(fitted.selection.kept, here))
    return Crossfitted(out, fits)
