"""The mean of ranks: for AUC, which asks for an order and not for a scale."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ensemble.combine.arrays import UNSEEN, Wide, enough_rows, normalised, uniform_weights
from ensemble.combine.rules.base import Params, rule
from ensemble.predictions import Floats, Ints

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
