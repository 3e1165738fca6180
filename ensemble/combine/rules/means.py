"""Weighted means of probabilities, of their logarithms, or of ranks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ensemble.combine.arrays import (
    UNSEEN,
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
    """The weight of member j times its probabilities (n, k) at its own temperature."""
    term: Wide = params["weights"][j] * apply_temperature(member, float(params["temperatures"][j]))
    return term


@rule("convex", complexity=5, term=weighted_calibrated)
def convex(probs: Floats, targets: Ints) -> Params:
    """Each member calibrated by its own temperature, then the weights on the simplex of the least log-loss.

    A maximum-likelihood mixture (super learning with log-loss, van der Laan et al. 2007): one optimum, no seed.
    """
    m, n, k = probs.shape
    temperatures = np.empty(m)
    likely = np.empty((m, n)).T
    some = enough_rows(n, k)
    for j, member in enumerate(probs):
        temperatures[j] = fit_temperature(member[some], targets[some])
        likely[:, j] = likelihoods(member, targets, temperatures[j])
    weights = mixture(np.maximum(likely, SMALLEST))
    # what the optimum does not need is none of it, not a rounding error of it
    return {"weights": _without_dust(weights), "temperatures": temperatures}


def _without_dust(weights: Wide) -> Wide:
    kept = np.where(weights < 1e-6, 0.0, weights)
    cleaned: Wide = kept / kept.sum()
    return cleaned


@rule("greedy", complexity=6, optimises=True)
def greedy(probs: Floats, targets: Ints, metric: Metric) -> Params:
    """The bagged selection with replacement of Caruana et al. (2004, 2006), for the metric asked for."""
    return {"weights": greedy_weights(probs, targets, metric)}


def weighted_logs(params: Params, j: int, member: Floats) -> Wide:
    """The weight of member j times its log-probabilities (n, k)."""
    term: Wide = params["weights"][j] * logarithms(member)
    return term


def exponentials(params: Params, total: Wide) -> Wide:
    """The softmax of rows (n, k)."""
    return softmax(total)


@rule("logit-mean", complexity=3, term=weighted_logs, finish=exponentials)
def logit_mean(probs: Floats, targets: Ints) -> Params:
    """The normalised geometric mean (the logarithmic opinion pool, Genest and Zidek 1986)."""
    return {"weights": uniform_weights(len(probs))}


SHRINKAGE = 2.0
"""How many rows' worth of squared error pull the weights to the plain mean, times the number of members."""


def weighted_by_class(params: Params, j: int, member: Floats) -> Wide:
    """The weights of member j for each class times its probabilities (n, k)."""
    term: Wide = params["by_class"][j] * member.astype(np.float64)
    return term


def rows_to_one(params: Params, total: Wide) -> Wide:
    """Rows (n, k) divided by their sums; all classes alike where nobody of weight gives any of them anything."""
    total = np.where(np.add.accumulate(total, axis=1)[:, -1:] > 0, total, 1.0)
    return normalised(total)


def mean_over_classes(params: Params) -> Wide:
    """The weight of a member: the mean of its weights for the classes, (m,)."""
    weights: Wide = params["by_class"].mean(axis=1)
    return weights


def by_class(params: Params) -> Wide:
    """The weights themselves, (m, k)."""
    return params["by_class"]


@rule(
    "per-class",
    complexity=7,
    term=weighted_by_class,
    finish=rows_to_one,
    weights=mean_over_classes,
    shares=by_class,
)
def per_class(probs: Floats, targets: Ints) -> Params:
    """For each class the weights (m,) on the simplex of the least squared error against the rest.

    Stacked regressions with non-negative weights (Breiman 1996), shrunk to the plain mean; a class without a
    row keeps that.
    """
    m, _, k = probs.shape
    weights = np.full((m, k), 1 / m)
    ridge = SHRINKAGE * m * np.eye(m)
    for c in np.unique(targets):
        said = np.ascontiguousarray(probs[:, :, c])
        hit = (targets == c).astype(np.float32)
        gram, pull = (said @ said.T).astype(np.float64), (said @ hit).astype(np.float64)
        weights[:, c] = quadratic(gram + ridge, pull + ridge @ weights[:, c])
    return {"by_class": weights}


REACH, CELLS = 16.0, 512
"""Ranks are kept at so many steps of the log-odds from -16 to 16, where float32 ends; between them they run
straight. A table of equal steps is read in one look, where quantiles would have to be searched.
"""

MOST_ROWS, MOST_CELLS, FEWEST_ROWS = 5_000, 1_000_000, 1_000
"""So many random validation rows fix the quantiles to about a percent; fewer of them where classes are many."""

Narrow = npt.NDArray[np.float32]


def places(probs: Floats) -> Narrow:
    """float32: where probabilities lie on the scale of log-odds, 0 to CELLS. Keeps their order."""
    tiny = np.float32(np.exp(-REACH))
    narrow = probs.astype(np.float32)
    odds = np.maximum(narrow, tiny) / np.maximum(1 - narrow, tiny)
    steps: Narrow = np.clip((np.log(odds) + np.float32(REACH)) * np.float32(CELLS / 2 / REACH), 0, CELLS)
    return steps


def _from_places(place: Narrow) -> Wide:
    """The probabilities whose places these are."""
    odds: Wide = np.exp(place.astype(np.float64) * (2 * REACH / CELLS) - REACH)
    return odds / (1 + odds)


def _looked_up(tables: Floats, place: Narrow) -> Wide:
    """Column c of places (n, k) read off row c of tables (k, steps + 1); between two steps straight."""
    last = tables.shape[1] - 1
    cell = np.minimum(place.astype(np.int32), last - 1)
    flat = cell + np.arange(len(tables), dtype=np.int32) * np.int32(last + 1)
    below, above = tables.ravel()[flat], tables.ravel()[flat + 1]
    values: Wide = (below + (place - cell) * (above - below)).astype(np.float64)
    return values


def weighted_ranks(params: Params, j: int, member: Floats) -> Wide:
    """The weight of member j times the share of validation rows below each of its probabilities (n, k)."""
    term: Wide = params["weights"][j] * _looked_up(params["levels"][j], places(member))
    return term


def as_probabilities(params: Params, total: Wide) -> Wide:
    """Mean ranks (n, k) on the members' own scale: the same quantile of their mean; rows sum to one."""
    place = np.clip(total, 0, 1).astype(np.float32) * np.float32(CELLS)
    return normalised(_looked_up(params["scale"], place))


@rule("rank", complexity=4, term=weighted_ranks, finish=as_probabilities)
def rank(probs: Floats, targets: Ints) -> Params:
    """Keeps the validation quantiles of every member and class as ranks at equal steps, (m, k, CELLS + 1).

    And for each class what mean rank stands for what probability, (k, CELLS + 1), so that the mean of ranks
    orders the rows and the members' own distribution gives it a scale (quantile normalisation, Bolstad et al.
    2003).
    """
    m, n, k = probs.shape
    some = enough_rows(n, k, min(MOST_CELLS, MOST_ROWS * k), FEWEST_ROWS)
    steps = np.arange(CELLS + 1)
    levels = np.empty((m, k, CELLS + 1), np.float32)
    quantiles, ranks = np.zeros((k, len(some))), np.zeros((len(some), k))
    params: Params = {"weights": uniform_weights(m), "levels": levels}
    for j, member in enumerate(probs):
        rows = member[some]
        columns = np.sort(np.ascontiguousarray(places(rows).T), axis=1)
        quantiles += _from_places(columns) / m
        for column, level in zip(columns, levels[j], strict=True):
            level[:] = np.interp(steps, *_quantiles(column))
        ranks += weighted_ranks(params, j, rows)
    scale = [_scale(np.sort(ranks[:, c]), quantiles[c]) for c in range(k)]
    return {**params, "scale": np.array(scale, np.float32)}


def _scale(ranks: Wide, quantiles: Wide) -> Wide:
    """The probability at equal steps of the mean rank: sorted mean ranks (n,) stand for sorted quantiles (n,)."""
    new = np.flatnonzero(np.concatenate([[True], ranks[1:] > ranks[:-1]]))
    means = np.add.reduceat(quantiles, new) / np.diff(np.append(new, len(ranks)))
    ends = ([0.0], ranks[new], [1.0]), ([min(UNSEEN, means[0])], means, [max(1.0 - UNSEEN, means[-1])])
    known, values = (np.concatenate(one) for one in ends)
    scale: Wide = np.interp(np.linspace(0, 1, CELLS + 1), known, values)
    return scale


def _quantiles(column: Narrow) -> tuple[Wide, Wide]:
    """The different values of a sorted column and their ranks in (0, 1); ties share the middle of their places.

    Whatever lies outside of what was seen keeps its order up to the ends, and no rank is a plain zero.
    """
    n = len(column)
    new = np.flatnonzero(np.concatenate([[True], column[1:] != column[:-1]]))
    upto = np.append(new[1:], n)
    inside = column[new].astype(np.float64)
    ranks = (new + upto) / (2 * n)
    return np.concatenate([[-1.0], inside, [CELLS + 1.0]]), np.concatenate([[0.25 / n], ranks, [1.0]])


@rule("uniform", complexity=0, calibrates=False)
def uniform(probs: Floats, targets: Ints) -> Params:
    """Every member weighs the same: the plain mean."""
    return {"weights": uniform_weights(len(probs))}


@rule("accuracy", complexity=1, calibrates=False)
def accuracy(probs: Floats, targets: Ints) -> Params:
    """Each member weighs its accuracy over the sum of all accuracies."""
    return {"weights": shares(accuracies(probs, targets))}


@rule("log-odds", complexity=2)
def log_odds(probs: Floats, targets: Ints) -> Params:
    """Each member weighs ln((k - 1) a / (1 - a)), a its accuracy; nothing where it is no better than chance.

    The best weights of independent voters (Nitzan and Paroush 1982; for k classes the member weight of SAMME,
    Zhu et al. 2009). An accuracy counts as half a row from all and from none, so that no weight is infinite.
    """
    n, k = probs.shape[1:]
    rate = np.clip(accuracies(probs, targets), 0.5 / n, 1 - 0.5 / n)
    return {"weights": shares(np.log((k - 1) * rate / (1 - rate)))}
