"""Arrays of weights and of probabilities: normalisation, a fixed order of sums, convex problems over weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ensemble.core.names import natural_key
from ensemble.core.predictions import Floats, Ints, Texts, Wide

UNSEEN = 1e-7
"""What a probability counts as at least in a rule's logarithm: float32 cannot tell 1 - 3e-8 from 1."""


def normalised(rows: Wide) -> Wide:
    """Rows (n, k) divided by their sums. The sums run from the first column on, whatever n and the layout."""
    return rows / np.add.accumulate(rows, axis=1)[:, -1:]


def uniform_weights(m: int) -> Wide:
    """1 / m for each member, float64 (m,)."""
    return np.full(m, 1 / m)


def shares(values: Wide) -> Wide:
    """Values (m,) clipped at zero and divided by their sum; uniform where nothing is left."""
    clipped = np.maximum(values, 0.0)
    total = clipped.sum()
    return clipped / total if 0 < total < np.inf else uniform_weights(len(values))


def logarithms(probs: Floats) -> Wide:
    """float64 logarithms of probabilities that count as UNSEEN at least."""
    logs: Wide = np.log(np.maximum(probs.astype(np.float64, order="C"), UNSEEN))
    return logs


def softmax(logits: Wide) -> Wide:
    """Rows (n, k) of logits as probabilities, float64. Row by row."""
    return normalised(np.exp(logits - logits.max(axis=1, keepdims=True)))


def sampled(n: int, most: int) -> Ints:
    """The places 0..n-1, ascending, or `most` of them, drawn at random and always the same.

    A fixed stride could meet one class only, where classes follow a period.
    """
    # RandomState, as numpy promises never to change its numbers
    return np.arange(n) if n <= most else np.sort(np.random.RandomState(0).permutation(n)[:most])


def enough_rows(n: int, k: int, cells: int = 500_000, fewest: int = 1_000) -> Ints:
    """Rows of (n, k) probabilities that stand for all: at most `cells` numbers, but no fewer than `fewest` rows."""
    return sampled(n, max(fewest, cells // k))


def fixed_order(orders: Sequence[Texts]) -> Texts:
    """The order that most members share; a tie goes to the natural order, then the plain, then the smallest.

    One member whose rows or columns were permuted is put right, and never moves the others.
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
"""Rules without linear algebra, which need not wait for its library to be found."""


def one_thread(rule: str) -> AbstractContextManager[Any]:
    """A context in which BLAS has one thread, where the rule of this name uses it.

    So the last digits of weights do not depend on the number of cores, and many small products do not wait for
    threads that a busy machine never wakes.
    """
    if rule in QUICK:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(limits=1, user_api="blas")
    return limits


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
