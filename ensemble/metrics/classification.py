"""The metrics: of the most probable class, of the probabilities, of ranks, and of uncertainty."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import numpy.typing as npt

from ensemble.core.predictions import Floats, Ints, Wide
from ensemble.metrics.base import Metric, Rows, metric


def labels(probs: Floats) -> Ints:
    """The most probable class of each row, int64 (n,); ties go to the lower class index.

    float32 rounds away the last digits of a sum, so that what is a tie on paper is one here too.
    """
    best: Ints = np.argmax(probs, axis=-1).astype(np.int64)
    return best


def _predicted(probs: Floats, targets: Ints) -> Rows:
    return labels(probs)


def _right(predicted: Rows, targets: Ints) -> Wide:
    right: Wide = (predicted == targets).astype(np.float64)
    return right


@metric("accuracy", of=_predicted, rows=_right)
def accuracy(predicted: Rows, targets: Ints) -> float:
    """The share of rows whose most probable class is the target: sklearn's accuracy_score."""
    return float(np.count_nonzero(predicted == targets) / len(targets))


@metric("balanced_accuracy", of=_predicted)
def balanced_accuracy(predicted: Rows, targets: Ints) -> float:
    """The mean recall of the classes that occur in the targets: sklearn's balanced_accuracy_score."""
    hits, actual, _ = _counts(predicted, targets)
    present = actual > 0
    return float(np.mean(hits[present] / actual[present]))


@metric("macro_f1", of=_predicted)
def macro_f1(predicted: Rows, targets: Ints) -> float:
    """The mean F1 of the classes that occur in the targets: sklearn's f1_score with these as `labels`."""
    hits, actual, claimed = _counts(predicted, targets)
    present = actual > 0
    return float(np.mean(2 * hits[present] / (actual + claimed)[present]))


@metric("kappa", of=_predicted, least=-1.0)
def kappa(predicted: Rows, targets: Ints) -> float:
    """Cohen's kappa (1960), unweighted, -1 to 1: sklearn's cohen_kappa_score.

    Where all targets and all predictions are one class, 0/0, it is 0: so it is for any other predictions of
    rows of one class, since chance alone would agree as often.
    """
    hits, actual, claimed = _counts(predicted, targets)
    pairs, agreed, chance = len(targets) ** 2, len(targets) * int(hits.sum()), int(actual @ claimed)
    return (agreed - chance) / (pairs - chance) if chance < pairs else 0.0


def _counts(predicted: Rows, targets: Ints) -> tuple[Rows, Rows, Rows]:
    """For each class: rows predicted right, rows of it, rows predicted as it."""
    k = int(max(predicted.max(), targets.max())) + 1
    right = targets[predicted == targets]
    return tuple(np.bincount(rows, minlength=k) for rows in (right, targets, predicted))  # type: ignore[return-value]


SMALLEST = 1e-15
"""A probability below this counts as this much in a logarithm."""

BINS = 15
"""Bins of `ece`."""


def _surprise(probs: Floats, targets: Ints) -> Rows:
    likelihood = probs[np.arange(len(targets)), targets].astype(np.float64)
    return -np.log(np.maximum(likelihood, SMALLEST))


def _squared_error(probs: Floats, targets: Ints) -> Rows:
    wide = probs.astype(np.float64)
    hit = wide[np.arange(len(targets)), targets]
    squares: Rows = np.square(wide).sum(axis=1)
    return squares - 2 * hit + 1


def _bin_and_gap(probs: Floats, targets: Ints) -> Rows:
    confidence = probs.max(axis=1).astype(np.float64)
    bins = np.searchsorted(np.arange(1, BINS) / BINS, confidence)
    return np.column_stack((bins, (labels(probs) == targets) - confidence))


def _as_they_are(values: Rows, targets: Ints) -> Wide:
    return values


@metric("log_loss", higher=False, of=_surprise, rows=_as_they_are)
def log_loss(surprise: Rows, targets: Ints) -> float:
    """The mean of -ln(probability of the target), probabilities not below 1e-15.

    sklearn's log_loss of float64 probabilities, which clips at 2.2e-16 instead.
    """
    return float(np.mean(surprise))


@metric("brier", higher=False, of=_squared_error, rows=_as_they_are, most=2.0)
def brier(error: Rows, targets: Ints) -> float:
    """The mean over rows of the squared distance to the target's one-hot row, 0 to 2 (Brier 1950).

    sklearn's brier_score_loss with `scale_by_half=False`.
    """
    return float(np.mean(error))


@metric("ece", higher=False, of=_bin_and_gap, most=1.0)
def ece(bin_and_gap: Rows, targets: Ints) -> float:
    """Expected calibration error of the most probable class, 0 to 1 (Guo et al. 2017, equation 3).

    15 bins of equal width, the upper end included; |accuracy - mean confidence| of each, weighted by its rows.
    """
    gaps = np.bincount(bin_and_gap[:, 0].astype(np.int64), weights=bin_and_gap[:, 1])
    return float(np.abs(gaps).sum() / len(targets))


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


def entropy(probs: Floats) -> Wide:
    """float64 (…,): the entropy of rows (…, k) of probabilities: 0 where one class is certain, ln(k) at most."""
    wide = probs.astype(np.float64)
    logs = np.log(np.where(wide > 0, wide, 1.0))
    found: Wide = -(wide * logs).sum(axis=-1)
    return np.maximum(found, 0.0)


def disagreement(probs: Floats, weights: Floats) -> Wide:
    """float64 (n,): the entropy of the members' mean minus the mean of their entropies, for probs (m, n, k).

    The mutual information of the answer and of who gives it (Houlsby et al. 2011; Lakshminarayanan et al. 2017):
    0 where all members say the same, however unsure they are. weights: (m,), summing to one; a member without
    weight is not heard.
    """
    heard = np.flatnonzero(weights)
    said, shares = probs[heard].astype(np.float64), weights[heard].astype(np.float64)
    mean = np.einsum("m,mnk->nk", shares, said)
    found: Wide = np.maximum(entropy(mean) - np.einsum("m,mn->n", shares, entropy(said)), 0.0)
    return found
