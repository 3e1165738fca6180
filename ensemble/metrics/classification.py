"""Classification metrics of labels, probabilities and ranks; entropy and disagreement of predictions."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import numpy.typing as npt

from ensemble.core.predictions import Floats, Ints, Wide
from ensemble.metrics.base import Metric, Rows, metric


def labels(probs: Floats) -> Ints:
    """The most probable class of each row, int64 (n,); ties go to the lower class index.

    float32 rounds away the last digits of a sum, so that mathematical ties are ties here too.
    """
    best: Ints = np.argmax(probs, axis=-1).astype(np.int64)
    return best


def _predicted(probs: Floats, targets: Ints) -> Rows:
    return labels(probs)


def _correct(predicted: Rows, targets: Ints) -> Wide:
    correct: Wide = (predicted == targets).astype(np.float64)
    return correct


@metric("accuracy", view=_predicted, rows=_correct)
def accuracy(predicted: Rows, targets: Ints) -> float:
    """The fraction of rows whose most probable class is the target: sklearn's accuracy_score."""
    return float(np.count_nonzero(predicted == targets) / len(targets))


@metric("balanced_accuracy", view=_predicted)
def balanced_accuracy(predicted: Rows, targets: Ints) -> float:
    """The mean recall of the classes that occur in the targets: sklearn's balanced_accuracy_score."""
    hits, actual, _ = _counts(predicted, targets)
    present = actual > 0
    return float(np.mean(hits[present] / actual[present]))


@metric("macro_f1", view=_predicted)
def macro_f1(predicted: Rows, targets: Ints) -> float:
    """The mean F1 of the classes that occur in the targets: sklearn's f1_score with these as `labels`."""
    hits, actual, claimed = _counts(predicted, targets)
    present = actual > 0
    return float(np.mean(2 * hits[present] / (actual + claimed)[present]))


@metric("kappa", view=_predicted, least=-1.0)
def kappa(predicted: Rows, targets: Ints) -> float:
    """Cohen's kappa (1960), unweighted, -1 to 1: sklearn's cohen_kappa_score.

    If all targets and all predictions are the same class (0/0) it is 0, as for any other predictions of rows of
    one class, where the expected agreement equals the observed one.
    """
    hits, actual, claimed = _counts(predicted, targets)
    pairs, agreed, chance = len(targets) ** 2, len(targets) * int(hits.sum()), int(actual @ claimed)
    return (agreed - chance) / (pairs - chance) if chance < pairs else 0.0


def _counts(predicted: Rows, targets: Ints) -> tuple[Rows, Rows, Rows]:
    """For each class: true positives, rows with this target, rows predicted as this class."""
    k = int(max(predicted.max(), targets.max())) + 1
    correct = targets[predicted == targets]
    return tuple(np.bincount(rows, minlength=k) for rows in (correct, targets, predicted))  # type: ignore[return-value]


SMALLEST = 1e-15
"""Lower bound of a probability before its logarithm is taken."""

BINS = 15
"""Number of bins of `ece`."""


def _negative_log_likelihood(probs: Floats, targets: Ints) -> Rows:
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


def _identity(values: Rows, targets: Ints) -> Wide:
    return values


@metric("log_loss", higher=False, view=_negative_log_likelihood, rows=_identity)
def log_loss(losses: Rows, targets: Ints) -> float:
    """The mean of -ln(probability of the target), probabilities clipped at 1e-15.

    sklearn's log_loss of float64 probabilities, except that sklearn clips at 2.2e-16.
    """
    return float(np.mean(losses))


@metric("brier", higher=False, view=_squared_error, rows=_identity, most=2.0)
def brier(error: Rows, targets: Ints) -> float:
    """The mean over rows of the squared distance to the one-hot target, 0 to 2 (Brier 1950).

    sklearn's brier_score_loss with `scale_by_half=False`.
    """
    return float(np.mean(error))


@metric("ece", higher=False, view=_bin_and_gap, most=1.0)
def ece(bin_and_gap: Rows, targets: Ints) -> float:
    """Expected calibration error of the most probable class, 0 to 1 (Guo et al. 2017, equation 3).

    15 bins of equal width, upper edge included; |accuracy - mean confidence| of each, weighted by its rows.
    """
    gaps = np.bincount(bin_and_gap[:, 0].astype(np.int64), weights=bin_and_gap[:, 1])
    return float(np.abs(gaps).sum() / len(targets))


def _ranks(column: Floats) -> npt.NDArray[np.int32]:
    """Dense ranks of (n,) from 0 upwards; ties share a rank."""
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
    """The area under the ROC curve: the fraction of (positive, negative) pairs in order, a tie counting half.

    ranks: int (n,), dense.  positive: bool (n,). The U statistic of Mann and Whitney (1947) from counts of ranks,
    in integers: O(n), and independent of the order of rows. nan if there is no pair.
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


def _one_vs_rest(c: int) -> Metric:
    return Metric(f"roc_auc:{c}", True, partial(_area_of, c), partial(_ranks_of, c), most=1.0)


@metric("roc_auc", view=_ranks_of_each, for_class=_one_vs_rest)
def roc_auc(ranks: Rows, targets: Ints) -> float:
    """The mean area under the ROC curve of each class against the rest: sklearn's roc_auc_score, ovr, macro.

    ranks: int (n, k), dense within each class. Classes without a row, or with every row, are left out; nan
    if none is left. `roc_auc:<class>` is that class alone: nan without a row of it, or without any other row.
    """
    areas = np.array([_area_of(c, column, targets) for c, column in enumerate(ranks.T)])
    defined = areas[~np.isnan(areas)]
    return float(np.mean(defined)) if len(defined) else math.nan


def entropy(probs: Floats) -> Wide:
    """The entropy of probabilities (…, k), float64 (…,): 0 if one class is certain, at most ln(k)."""
    wide = probs.astype(np.float64)
    logs = np.log(np.where(wide > 0, wide, 1.0))
    entropies: Wide = -(wide * logs).sum(axis=-1)
    return np.maximum(entropies, 0.0)


def disagreement(probs: Floats, weights: Floats) -> Wide:
    """float64 (n,): the entropy of the members' mean minus the mean of their entropies, for probs (m, n, k).

    The mutual information between the label and the member (Houlsby et al. 2011; Lakshminarayanan et al. 2017):
    0 if all members predict the same probabilities, however uncertain. weights: (m,), summing to one; members
    of weight 0 are ignored.
    """
    weighted = np.flatnonzero(weights)
    member_probs, shares = probs[weighted].astype(np.float64), weights[weighted].astype(np.float64)
    mean = np.einsum("m,mnk->nk", shares, member_probs)
    information: Wide = np.maximum(entropy(mean) - np.einsum("m,mn->n", shares, entropy(member_probs)), 0.0)
    return information
