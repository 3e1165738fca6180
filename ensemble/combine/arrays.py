"""Small functions of weights and of rows of probabilities that rules share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ensemble.predictions import Floats, Ints

Wide = npt.NDArray[np.float64]

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
