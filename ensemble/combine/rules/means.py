"""Weighted means of probabilities, of their logarithms, or of ranks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ensemble.combine.arrays import (
    MIN_PROBABILITY,
    enough_rows,
    logarithms,
    mixture,
    normalised,
    quadratic,
    shares,
    softmax,
    uniform_weights,
)
from ensemble.combine.calibration import apply_temperature, fit_temperature, likelihoods
from ensemble.combine.greedy import greedy_weights
from ensemble.combine.rules import Params, accuracies, rule
from ensemble.core.predictions import Floats, Ints, Wide
from ensemble.metrics import SMALLEST, Metric


def weighted_calibrated(params: Params, j: int, member: Floats) -> Wide:
    """The weight of member j times its probabilities (n, k) scaled by its own temperature."""
    term: Wide = params["weights"][j] * apply_temperature(member, float(params["temperatures"][j]))
    return term


@rule("convex", complexity=5, term=weighted_calibrated, graph="ensemble.export.rules:CALIBRATED_MEAN")
def convex(probs: Floats, targets: Ints) -> Params:
    """Each member calibrated by its own temperature, then the simplex weights that minimise the log-loss.

    A maximum-likelihood mixture (super learning with log-loss, van der Laan et al. 2007): one optimum, no seed.
    """
    m, n, k = probs.shape
    temperatures = np.empty(m)
    target_probs = np.empty((m, n)).T
    sample = enough_rows(n, k)
    for j, member in enumerate(probs):
        temperatures[j] = fit_temperature(member[sample], targets[sample])
        target_probs[:, j] = likelihoods(member, targets, temperatures[j])
    weights = mixture(np.maximum(target_probs, SMALLEST))
    # weights that are 0 at the optimum become exactly 0, without rounding errors
    return {"weights": _without_negligible(weights), "temperatures": temperatures}


def _without_negligible(weights: Wide) -> Wide:
    kept = np.where(weights < 1e-6, 0.0, weights)
    cleaned: Wide = kept / kept.sum()
    return cleaned


@rule("greedy", complexity=6, optimises=True)
def greedy(probs: Floats, targets: Ints, metric: Metric) -> Params:
    """The bagged selection with replacement of Caruana et al. (2004, 2006), for the given metric."""
    return {"weights": greedy_weights(probs, targets, metric)}


def weighted_logs(params: Params, j: int, member: Floats) -> Wide:
    """The weight of member j times its log-probabilities (n, k)."""
    term: Wide = params["weights"][j] * logarithms(member)
    return term


def exponentials(params: Params, total: Wide) -> Wide:
    """The softmax of rows (n, k)."""
    return softmax(total)


@rule(
    "logit-mean",
    complexity=3,
    term=weighted_logs,
    finish=exponentials,
    graph="ensemble.export.rules:GEOMETRIC_MEAN",
)
def logit_mean(probs: Floats, targets: Ints) -> Params:
    """The normalised geometric mean (the logarithmic opinion pool, Genest and Zidek 1986)."""
    return {"weights": uniform_weights(len(probs))}


SHRINKAGE = 2.0
"""Strength of the ridge penalty towards the plain mean, in rows of squared error per member."""


def weighted_by_class(params: Params, j: int, member: Floats) -> Wide:
    """The weights of member j for each class times its probabilities (n, k)."""
    term: Wide = params["by_class"][j] * member.astype(np.float64)
    return term


def rows_to_one(params: Params, total: Wide) -> Wide:
    """Rows (n, k) divided by their sums; uniform for rows whose sum is 0."""
    total = np.where(np.add.accumulate(total, axis=1)[:, -1:] > 0, total, 1.0)
    return normalised(total)


def mean_over_classes(params: Params) -> Wide:
    """Weights of the members, (m,): the mean of their weights over classes."""
    weights: Wide = params["by_class"].mean(axis=1)
    return weights


def by_class(params: Params) -> Wide:
    """The weights by member and class, (m, k)."""
    return params["by_class"]


@rule(
    "per-class",
    complexity=7,
    term=weighted_by_class,
    finish=rows_to_one,
    weights=mean_over_classes,
    shares=by_class,
    graph="ensemble.export.rules:MEAN_BY_CLASS",
)
def per_class(probs: Floats, targets: Ints) -> Params:
    """For each class the simplex weights (m,) that minimise the squared error of that class against the rest.

    Stacked regressions with non-negative weights (Breiman 1996), shrunk to the plain mean; a class without a
    row keeps the plain mean.
    """
    m, _, k = probs.shape
    weights = np.full((m, k), 1 / m)
    ridge = SHRINKAGE * m * np.eye(m)
    for c in np.unique(targets):
        class_probs = np.ascontiguousarray(probs[:, :, c])
        hit = (targets == c).astype(np.float32)
        gram, cross = (class_probs @ class_probs.T).astype(np.float64), (class_probs @ hit).astype(np.float64)
        weights[:, c] = quadratic(gram + ridge, cross + ridge @ weights[:, c])
    return {"by_class": weights}


REACH, CELLS = 16.0, 512
"""Ranks are tabulated at CELLS + 1 equal steps of the log-odds from -16 to 16, the resolution of float32, and
interpolated linearly. A table of equal steps is indexed directly, where quantiles would need a search.
"""

MOST_ROWS, MOST_CELLS, FEWEST_ROWS = 5_000, 1_000_000, 1_000
"""Size of the random sample of validation rows for the quantiles, accurate to about 1 %; fewer for many classes."""

Narrow = npt.NDArray[np.float32]


def positions(probs: Floats) -> Narrow:
    """float32: positions of probabilities on the log-odds scale, 0 to CELLS. Monotonic."""
    tiny = np.float32(np.exp(-REACH))
    narrow = probs.astype(np.float32)
    odds = np.maximum(narrow, tiny) / np.maximum(1 - narrow, tiny)
    steps: Narrow = np.clip((np.log(odds) + np.float32(REACH)) * np.float32(CELLS / 2 / REACH), 0, CELLS)
    return steps


def _from_positions(position: Narrow) -> Wide:
    """The probabilities at these positions: the inverse of `positions`."""
    odds: Wide = np.exp(position.astype(np.float64) * (2 * REACH / CELLS) - REACH)
    return odds / (1 + odds)


def _interpolated(tables: Floats, position: Narrow) -> Wide:
    """Column c of `position` (n, k) looked up in row c of tables (k, steps + 1), with linear interpolation."""
    last = tables.shape[1] - 1
    cell = np.minimum(position.astype(np.int32), last - 1)
    flat = cell + np.arange(len(tables), dtype=np.int32) * np.int32(last + 1)
    below, above = tables.ravel()[flat], tables.ravel()[flat + 1]
    values: Wide = (below + (position - cell) * (above - below)).astype(np.float64)
    return values


def weighted_ranks(params: Params, j: int, member: Floats) -> Wide:
    """The weight of member j times the share of validation rows below each of its probabilities (n, k)."""
    term: Wide = params["weights"][j] * _interpolated(params["levels"][j], positions(member))
    return term


def as_probabilities(params: Params, total: Wide) -> Wide:
    """Mean ranks (n, k) mapped to the members' mean quantile function; rows sum to one."""
    position = np.clip(total, 0, 1).astype(np.float32) * np.float32(CELLS)
    return normalised(_interpolated(params["scale"], position))


@rule("rank", complexity=4, term=weighted_ranks, finish=as_probabilities, graph="ensemble.export.rules:MEAN_RANK")
def rank(probs: Floats, targets: Ints) -> Params:
    """The mean of the members' ranks per class, mapped back to probabilities.

    Stores the empirical distribution function of each member and class at equal steps, (m, k, CELLS + 1), and per
    class the probability for each mean rank, (k, CELLS + 1): mean ranks order the rows, and the members' mean
    distribution sets the scale (quantile normalisation, Bolstad et al. 2003).
    """
    m, n, k = probs.shape
    sample = enough_rows(n, k, min(MOST_CELLS, MOST_ROWS * k), FEWEST_ROWS)
    steps = np.arange(CELLS + 1)
    levels = np.empty((m, k, CELLS + 1), np.float32)
    quantiles, ranks = np.zeros((k, len(sample))), np.zeros((len(sample), k))
    params: Params = {"weights": uniform_weights(m), "levels": levels}
    for j, member in enumerate(probs):
        rows = member[sample]
        columns = np.sort(np.ascontiguousarray(positions(rows).T), axis=1)
        quantiles += _from_positions(columns) / m
        for column, level in zip(columns, levels[j], strict=True):
            level[:] = np.interp(steps, *_quantiles(column))
        ranks += weighted_ranks(params, j, rows)
    scale = [_scale(np.sort(ranks[:, c]), quantiles[c]) for c in range(k)]
    return {**params, "scale": np.array(scale, np.float32)}


def _scale(ranks: Wide, quantiles: Wide) -> Wide:
    """The probability at equal steps of the mean rank, from sorted mean ranks (n,) and sorted quantiles (n,)."""
    first_of_ties = np.flatnonzero(np.concatenate([[True], ranks[1:] > ranks[:-1]]))
    means = np.add.reduceat(quantiles, first_of_ties) / np.diff(np.append(first_of_ties, len(ranks)))
    ends = (
        ([0.0], ranks[first_of_ties], [1.0]),
        ([min(MIN_PROBABILITY, means[0])], means, [max(1.0 - MIN_PROBABILITY, means[-1])]),
    )
    knots, values = (np.concatenate(parts) for parts in ends)
    scale: Wide = np.interp(np.linspace(0, 1, CELLS + 1), knots, values)
    return scale


def _quantiles(column: Narrow) -> tuple[Wide, Wide]:
    """The distinct values of a sorted column and their ranks in (0, 1); ties share their mean rank.

    End points extend the ranks to values beyond the sample, so that their order is kept and no rank is exactly 0.
    """
    n = len(column)
    first_of_ties = np.flatnonzero(np.concatenate([[True], column[1:] != column[:-1]]))
    upto = np.append(first_of_ties[1:], n)
    values = column[first_of_ties].astype(np.float64)
    ranks = (first_of_ties + upto) / (2 * n)
    return np.concatenate([[-1.0], values, [CELLS + 1.0]]), np.concatenate([[0.25 / n], ranks, [1.0]])


@rule("uniform", complexity=0, calibrates=False)
def uniform(probs: Floats, targets: Ints) -> Params:
    """Equal weights: the plain mean."""
    return {"weights": uniform_weights(len(probs))}


@rule("accuracy", complexity=1, calibrates=False)
def accuracy(probs: Floats, targets: Ints) -> Params:
    """Weights proportional to the accuracy."""
    return {"weights": shares(accuracies(probs, targets))}


@rule("log-odds", complexity=2)
def log_odds(probs: Floats, targets: Ints) -> Params:
    """Weights proportional to ln((k - 1) a / (1 - a)) for accuracy a; 0 if it is no better than chance.

    Optimal weights for the vote of independent classifiers (Nitzan and Paroush 1982; for k classes the weight of
    a member in SAMME, Zhu et al. 2009). Accuracies are clipped half a row from 0 and 1, which keeps weights finite.
    """
    n, k = probs.shape[1:]
    rate = np.clip(accuracies(probs, targets), 0.5 / n, 1 - 0.5 / n)
    return {"weights": shares(np.log((k - 1) * rate / (1 - rate)))}
