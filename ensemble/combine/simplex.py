"""Convex problems over weights that are not negative and sum to one."""

from __future__ import annotations

import numpy as np

from ensemble.combine.arrays import Wide, shares, uniform_weights

_GAP = 1e-8
_STEPS = 60


def quadratic(matrix: Wide, vector: Wide) -> Wide:
    """The w (m,) on the simplex of the least w'Aw / 2 - b'w; A (m, m) symmetric, positive definite.

    A primal active set: one member joins at a time, those that would go below zero leave.
    """
    m = len(vector)
    weights = np.zeros(m)
    weights[int(np.argmin(np.diag(matrix) / 2 - vector))] = 1
    scale = float(np.abs(matrix).max()) + float(np.abs(vector).max()) or 1.0
    for _ in range(10 * m):
        slope = matrix @ weights - vector
        level = float(slope[weights > 0].min())
        joining = int(np.argmin(slope))
        if slope[joining] >= level - 1e-12 * scale:
            return shares(weights)
        weights = _settled(matrix, vector, weights, joining)
    return shares(weights)


def _settled(matrix: Wide, vector: Wide, weights: Wide, joining: int) -> Wide:
    """The best weights on the support and `joining`, less those that leave on the way there."""
    inside = weights > 0
    inside[joining] = True
    while True:
        members = np.flatnonzero(inside)
        best = _on_plane(matrix[np.ix_(members, members)], vector[members])
        now = weights[members]
        down = best < 0
        if not down.any():
            weights = np.zeros(len(weights))
            weights[members] = best
            return weights
        reach = now[down] / (now[down] - best[down])
        step = float(reach.min())
        moved = now + step * (best - now)
        moved[np.flatnonzero(down)[int(reach.argmin())]] = 0
        weights = np.zeros(len(weights))
        weights[members] = np.maximum(moved, 0)
        leaving = members[weights[members] <= 0]
        inside[leaving] = False


def _on_plane(matrix: Wide, vector: Wide) -> Wide:
    """The w of any sign that sum to one, of the least w'Aw / 2 - b'w."""
    both = np.linalg.solve(matrix, np.stack([vector, np.ones(len(vector))], axis=1))
    push = (1 - both[:, 0].sum()) / both[:, 1].sum()
    best: Wide = both[:, 0] + push * both[:, 1]
    return best


def mixture(likelihoods: Wide) -> Wide:
    """The w (m,) on the simplex of the least -mean(log(L w)); L (n, m) positive.

    Sequential quadratic programming (Kim et al. 2020, mixSQP): a few passes where EM takes hundreds. Stops
    within 1e-8 of the optimum, which max_j mean(L_j / Lw) - 1 bounds.
    """
    n, m = likelihoods.shape
    weights = uniform_weights(m)
    mixed = likelihoods @ weights
    for _ in range(_STEPS):
        ratios = likelihoods / mixed[:, None]
        slope = -ratios.mean(axis=0)
        if -slope.min() - 1 < _GAP:
            break
        curve = ratios.T @ ratios / n
        # twins leave the weights open; a touch of the diagonal shares evenly between them
        curve[np.diag_indices(m)] += 1e-8 * (1 + curve.diagonal().mean())
        towards = quadratic(curve, curve @ weights - slope) - weights
        mixed_towards = likelihoods @ towards
        step = _step(mixed, mixed_towards, float(slope @ towards))
        if not step:
            break
        weights = shares(weights + step * towards)
        mixed = likelihoods @ weights
    return weights


def _step(mixed: Wide, towards: Wide, slope: float) -> float:
    """The longest of 1, 1/2, 1/4, ... that lowers -mean(log) enough (Armijo); 0 where none does."""
    step = 1.0
    for _ in range(40):
        with np.errstate(invalid="ignore", divide="ignore"):
            change = -float(np.mean(np.log1p(step * towards / mixed)))
        if change <= 1e-4 * step * slope:
            return step
        step /= 2
    return 0.0
