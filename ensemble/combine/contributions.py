"""What each member brings to the ensemble that it is in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ensemble.combine.paired import DRAWS, Difference, differences
from ensemble.metrics import Metric, labels
from ensemble.predictions import Floats, Ints, Texts

Without = Callable[[tuple[int, ...]], Floats]
"""Positions among the m members -> the cross-fitted predictions (n, k) of the ensemble without those."""

FEWEST_DRAWS, DRAWN_ROWS = 50, 50_000_000


@dataclass(frozen=True)
class Contribution:
    """One member's part in an ensemble.

    gain, low, high: what the ensemble's score gains by it, positive where it helps whatever the metric's
    direction, and the 95 % interval; None for a member alone.  disagreement: the share of rows on which its
    label differs from another member's, the mean over the others.
    """

    gain: float | None
    low: float | None
    high: float | None
    disagreement: float


def contributions(
    metric: Metric, whole: Floats, without: Without, probs: Floats, targets: Ints, groups: Texts | None
) -> list[Contribution]:
    """Each member's part. whole: cross-fitted predictions (n, k).  probs: (m, n, k) of the same n rows.

    targets: (n,), all known.  groups: (n,) or None.  `without` is called once for each member.
    """
    gains = _gains(metric, whole, without, len(probs), targets, groups)
    apart = disagreement(_labels(probs), probs.shape[2])
    return [
        Contribution(None, None, None, differs)
        if gain is None
        else Contribution(gain.value, gain.low, gain.high, differs)
        for gain, differs in zip(gains, apart, strict=True)
    ]


def _gains(
    metric: Metric, whole: Floats, without: Without, m: int, targets: Ints, groups: Texts | None
) -> list[Difference] | list[None]:
    if m == 1:
        return [None]
    count = min(DRAWS, max(FEWEST_DRAWS, DRAWN_ROWS // (m * len(targets))))
    rest = (without((position,)) for position in range(m))
    return [found.gain(metric) for found in differences(metric, whole, rest, targets, groups, count)]


def _labels(probs: Floats) -> npt.NDArray[np.int32]:
    out = np.empty(probs.shape[:2], np.int32)
    for row, member in zip(out, probs, strict=True):
        row[:] = labels(member)
    return out


def disagreement(chosen: npt.NDArray[np.integer], k: int) -> list[float]:
    """For each member the mean over the others of the share of rows with another label; 0 for a member alone.

    chosen: labels (m, n) among k classes. Counted by votes, so that m members cost m passes and not m squared.
    """
    m, n = chosen.shape
    rows, votes = np.arange(n), np.zeros((n, k), np.int32)
    for member in chosen:
        votes[rows, member] += 1
    return [float(np.sum(m - votes[rows, member], dtype=np.int64)) / (n * max(m - 1, 1)) for member in chosen]


def only_right(hits: npt.NDArray[np.bool_]) -> list[int]:
    """How many rows each member alone gets right. hits: (m, n), whether each member's label is the target."""
    alone = hits[:, hits.sum(axis=0) == 1]
    return [int(count) for count in alone.sum(axis=1)]
