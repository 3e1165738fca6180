"""The area under the ROC curve, from ranks that are found once and counted anew for each draw of rows."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import numpy.typing as npt

from ensemble.metrics.base import Metric, Rows, metric
from ensemble.predictions import Floats, Ints


def _ranks(column: Floats) -> npt.NDArray[np.int32]:
    """Dense ranks of (n,) from 0 upwards; equal values share one."""
    order = np.argsort(column)
    ordered = column[order]
    ranks = np.zeros(len(column), np.int32)
    ranks[order[1:]] = np.cumsum(ordered[1:] != ordered[:-1])
    return ranks


def _ranks_of_each(probs: Floats, targets: Ints) -> Rows:
    return np.stack([_ranks(column) for column in np.ascontiguousarray(probs.T)], axis=1)


def _ranks_of(c: int, probs: Floats, targets: Ints) -> Rows:
    return _ranks(probs[:, c])


def area(ranks: Rows, positive: npt.NDArray[np.bool_]) -> float:
    """The share of pairs of a positive and another row that `ranks` (n,) put in order, a tie being half a pair.

    positive: bool (n,). The U of Mann and Whitney (1947) from counted ranks, in whole numbers: O(n), and the
    same for any order of rows. nan where no pair exists.
    """
    hits = int(np.count_nonzero(positive))
    pairs = hits * (len(ranks) - hits)
    if not pairs:
        return math.nan
    below = np.concatenate(([0], np.cumsum(np.bincount(ranks))))
    own = ranks[positive]
    twice_the_ranks = int(below[own].sum() + below[own + 1].sum()) + hits
    return (twice_the_ranks - hits * (hits + 1)) / (2 * pairs)


def _area_of(c: int, ranks: Rows, targets: Ints) -> float:
    return area(ranks, targets == c)


def _against_the_rest(c: int) -> Metric:
    return Metric(f"roc_auc:{c}", True, partial(_area_of, c), partial(_ranks_of, c), most=1.0)


@metric("roc_auc", of=_ranks_of_each, for_class=_against_the_rest)
def roc_auc(ranks: Rows, targets: Ints) -> float:
    """The mean area under the ROC curve of each class against the rest: sklearn's roc_auc_score, ovr, macro.

    ranks: int (n, k), dense within each class. Classes without a row, or with every row, are left out; nan
    where none is left. `roc_auc:<class>` is that class alone: nan without a row of it, or of another.
    """
    areas = np.array([_area_of(c, column, targets) for c, column in enumerate(ranks.T)])
    decided = areas[~np.isnan(areas)]
    return float(np.mean(decided)) if len(decided) else math.nan
