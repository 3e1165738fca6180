"""Predictions for rows that had no part in the decisions behind them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ensemble.combine.fitting import Fitted, Probs
from ensemble.data.splits import stratified_folds
from ensemble.errors import DataError
from ensemble.predictions import UNKNOWN, Floats, Ints, Texts

Mask = npt.NDArray[np.bool_]

N_FOLDS = 5
SEED = 0


def folds_of(ids: Texts, targets: Ints, groups: Texts | None) -> Ints:
    """The fold of every row, int64 (n,); -1 where the target is unknown. At most 5, fewer for fewer units.

    A function of ids, targets and groups, never of the order of the rows. Raises DataError for one unit.
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
        ids[known], targets[known], min(N_FOLDS, units), SEED, None if groups is None else groups[known]
    )
    return folds


def crossfitted(fit: Callable[[Mask], Fitted], full: Fitted, probs: Floats, folds: Ints) -> Probs:
    """float32 (n, k): the rows of each fold predicted by what `fit` decides on the other folds.

    fit: bool (n,), the rows to decide on -> Fitted.  probs: (m, n, k).  folds: (n,), -1 for rows without a
    target, which `full` predicts.
    """
    out = np.empty(probs.shape[1:], np.float32)
    for fold in sorted(set(folds.tolist())):
        here = folds == fold
        rest = ~here & (folds != UNKNOWN)
        fitted = full if fold == UNKNOWN else fit(rest)
        out[here] = fitted.predict(probs[:, here])
    return out
