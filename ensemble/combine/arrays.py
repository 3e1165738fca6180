"""Weights and probabilities: normalisation, a fixed summation order, convex optimisation on the simplex."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ensemble.core.names import natural_key
from ensemble.core.predictions import Floats, Ints, Texts, Wide

MIN_PROBABILITY = 1e-7
"""Lower bound of probabilities in the logarithms of rules: float32 does not distinguish 1 - 3e-8 from 1."""


def normalised(rows: Wide) -> Wide:
    """Rows (n, k) divided by their sums, added from the first column on, whatever n and the memory layout."""
    return rows / np.add.accumulate(rows, axis=1)[:, -1:]


def uniform_weights(m: int) -> Wide:
    """1 / m for each member, float64 (m,)."""
    return np.full(m, 1 / m)


def shares(values: Wide) -> Wide:
    """Values (m,) clipped at zero and divided by their sum; uniform if the sum is 0 or not finite."""
    clipped = np.maximum(values, 0.0)
    total = clipped.sum()
    return clipped / total if 0 < total < np.inf else uniform_weights(len(values))


def logarithms(probs: Floats) -> Wide:
    """float64 logarithms of probabilities clipped at MIN_PROBABILITY."""
    logs: Wide = np.log(np.maximum(probs.astype(np.float64, order="C"), MIN_PROBABILITY))
    return logs


def softmax(logits: Wide) -> Wide:
    """The softmax of each row of logits (n, k), float64; independent of the other rows."""
    return normalised(np.exp(logits - logits.max(axis=1, keepdims=True)))


def sampled(n: int, most: int) -> Ints:
    """The indices 0..n-1, ascending, or a random sample of `most` of them, the same on every call.

    A fixed stride could select a single class if the order of the classes is periodic.
    """
    # RandomState, whose stream numpy guarantees not to change
    return np.arange(n) if n <= most else np.sort(np.random.RandomState(0).permutation(n)[:most])


def enough_rows(n: int, k: int, cells: int = 500_000, fewest: int = 1_000) -> Ints:
    """A sample of the rows of (n, k) probabilities: at most `cells` values, but at least `fewest` rows."""
    return sampled(n, max(fewest, cells // k))


def fixed_order(orders: Sequence[Texts]) -> Texts:
    """The most common order; ties go to the natural sort order, then the plain one, then the smallest.

    A single member with permuted rows or columns therefore does not change the order of the others.
    """
    if all(len(order) == len(orders[0]) and bool((order == orders[0]).all()) for order in orders[1:]):
        return orders[0]
    counts = Counter(tuple(order.tolist()) for order in orders)
    most = max(counts.values())
    tied = [names for names, count in counts.items() if count == most]
    natural = [names for names in tied if list(names) == sorted(names, key=natural_key)]
    plain = [names for names in tied if list(names) == sorted(names)]
    return np.array(min(natural or plain or tied), dtype=np.str_)


QUICK = ("uniform", "accuracy")
"""Rules without linear algebra, for which the search for BLAS libraries is skipped."""


def one_thread(rule: str) -> AbstractContextManager[Any]:
    """A context in which BLAS uses one thread, for rules that use BLAS.

    The last digits of weights then do not depend on the number of cores, and many small products do not wait for
    threads on a busy machine.
    """
    if rule in QUICK:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(limits=1, user_api="blas")
    return limits


_GAP = 1e-8
_STEPS = 60


def quadratic(matrix: Wide, vector: Wide) -> Wide:
    """The minimiser w (m,) of w'Aw / 2 - b'w on the simplex; A (m, m) symmetric, positive definite.

    A primal active-set method: one member enters at a time, members whose weight would become negative leave.
    """
    m = len(vector)
    weights = np.zeros(m)
    weights[int(np.argmin(np.diag(matrix) / 2 - vector))] = 1
    scale = float(np.abs(matrix).max()) + float(np.abs(vector).max()) or 1.0
    for _ in range(10 * m):
        gradient = matrix @ weights - vector
        level = float(gradient[weights > 0].min())
        entering = int(np.argmin(gradient))
        if gradient[entering] >= level - 1e-12 * scale:
            return shares(weights)
        weights = _after_entering(matrix, vector, weights, entering)
    return shares(weights)


def _after_entering(matrix: Wide, vector: Wide, weights: Wide, entering: int) -> Wide:
    """The best weights on the support plus `entering`, without the members that leave on the way."""
    active = weights > 0
    active[entering] = True
    while True:
        members = np.flatnonzero(active)
        best = _on_plane(matrix[np.ix_(members, members)], vector[members])
        current = weights[members]
        negative = best < 0
        if not negative.any():
            weights = np.zeros(len(weights))
            weights[members] = best
            return weights
        ratios = current[negative] / (current[negative] - best[negative])
        step = float(ratios.min())
        moved = current + step * (best - current)
        moved[np.flatnonzero(negative)[int(ratios.argmin())]] = 0
        weights = np.zeros(len(weights))
        weights[members] = np.maximum(moved, 0)
        leaving = members[weights[members] <= 0]
        active[leaving] = False


def _on_plane(matrix: Wide, vector: Wide) -> Wide:
    """The minimiser w of w'Aw / 2 - b'w with sum one and any signs."""
    solutions = np.linalg.solve(matrix, np.stack([vector, np.ones(len(vector))], axis=1))
    multiplier = (1 - solutions[:, 0].sum()) / solutions[:, 1].sum()
    best: Wide = solutions[:, 0] + multiplier * solutions[:, 1]
    return best


def mixture(likelihoods: Wide) -> Wide:
    """The minimiser w (m,) of -mean(log(L w)) on the simplex; L (n, m) positive.

    Sequential quadratic programming (Kim et al. 2020, mixSQP): a few passes instead of hundreds for EM. Stops
    within 1e-8 of the optimum; the distance is bounded by max_j mean(L_j / Lw) - 1.
    """
    n, m = likelihoods.shape
    weights = uniform_weights(m)
    mixed = likelihoods @ weights
    for _ in range(_STEPS):
        ratios = likelihoods / mixed[:, None]
        gradient = -ratios.mean(axis=0)
        if -gradient.min() - 1 < _GAP:
            break
        hessian = ratios.T @ ratios / n
        # identical members leave the weights undetermined; a small ridge splits the weight evenly between them
        hessian[np.diag_indices(m)] += 1e-8 * (1 + hessian.diagonal().mean())
        direction = quadratic(hessian, hessian @ weights - gradient) - weights
        mixed_direction = likelihoods @ direction
        step = _step(mixed, mixed_direction, float(gradient @ direction))
        if not step:
            break
        weights = shares(weights + step * direction)
        mixed = likelihoods @ weights
    return weights


def _step(mixed: Wide, direction: Wide, slope: float) -> float:
    """The longest step of 1, 1/2, 1/4, ... that satisfies the Armijo condition on -mean(log); 0 if none does."""
    step = 1.0
    for _ in range(40):
        with np.errstate(invalid="ignore", divide="ignore"):
            change = -float(np.mean(np.log1p(step * direction / mixed)))
        if change <= 1e-4 * step * slope:
            return step
        step /= 2
    return 0.0
