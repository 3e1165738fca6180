"""How far a score may be off: 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ensemble.combine.arrays import Wide
from ensemble.metrics import Metric
from ensemble.predictions import Floats, Ints, Texts

DRAWS = 1000
SEED = 0
Z95 = 1.959963984540054


def wilson(hits: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share: `hits` of `n` rows, n at least 1."""
    share, spread = hits / n, Z95**2 / n
    middle = (share + spread / 2) / (1 + spread)
    half = Z95 / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    # the share itself is inside, whatever the last digits say
    return max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share))


def interval(metric: Metric, several: Sequence[Floats], targets: Ints, groups: Texts | None) -> tuple[float, float]:
    """The 95 % interval of a score: targets (n,) all known, groups (n,) or None.

    several: predictions (n, k) of the same rows, one for each repeat; the score is the mean of theirs. Wilson's
    for the accuracy of rows that are independent; else the bootstrap's percentiles, whole groups drawn
    together, and Wilson's again where all draws of a share are the same. nan where the score is, and where all
    draws of a loss are the same.
    """
    n = len(targets)
    if metric.name == "accuracy" and groups is None:
        return wilson(float(np.mean([round(metric(probs, targets) * n) for probs in several])), n)
    low, high = bootstrap(metric, several, targets, groups)
    if low < high:
        return low, high
    # every draw the same says little, not everything
    units = n if groups is None else len(set(groups.tolist()))
    return wilson(low * units, units) if metric.higher and 0 <= low <= 1 else (math.nan, math.nan)


def bootstrap(
    metric: Metric, several: Sequence[Floats], targets: Ints, groups: Texts | None = None, count: int = DRAWS
) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of the score over seeded draws of rows, or of whole groups.

    A draw on which the score is not defined is no draw. Few units are spread wider, see `expanded`; what a score
    of shares or a loss cannot be is not in the interval.
    """
    views = [metric.of(probs, targets) for probs in several]

    def scored(rows: Ints) -> float:
        return float(np.mean([metric.summary(view[rows], targets[rows]) for view in views]))

    scores = np.array([scored(rows) for rows in draws(len(targets), groups, count)])
    value = float(np.mean([metric.summary(view, targets) for view in views]))
    known = expanded(value, scores, units_of(targets, groups))
    if not len(known):
        return math.nan, math.nan
    low, high = np.percentile(known, [2.5, 97.5])
    # an agreement may be worse than chance; where no draw is, the interval has no such scores
    least = metric.least if (scores < 0).any() else max(0.0, metric.least)
    return max(least, float(low)), min(metric.most, float(high))


def units_of(targets: Ints, groups: Texts | Ints | None) -> int:
    """How many independent units there are: rows, or groups."""
    return len(targets) if groups is None else len(np.unique(groups))


def expanded(value: float, scores: Wide, units: int) -> Wide:
    """Draws of a score (draws,), without those that have none, nan, drawn apart for few units.

    The bootstrap spreads too little by the factor that parts Student's t with n - 1 in the variance from the
    normal with n (Hesterberg 2015, 3.2).
    """
    known = scores[np.isfinite(scores)]
    wider: Wide = value + (known - value) * student(units) / Z95 * math.sqrt(units / max(units - 1, 1))
    return wider


def draws(n: int, groups: Texts | None, count: int) -> Iterator[Ints]:
    """Seeded draws of n rows with replacement, or of as many whole groups as there are."""
    random = np.random.default_rng(SEED)
    if groups is None:
        for _ in range(count):
            yield random.integers(0, n, n)
        return
    _, group_of = np.unique(groups, return_inverse=True)
    by_group = np.argsort(group_of, kind="stable")
    sizes = np.bincount(group_of)
    starts = np.cumsum(sizes) - sizes
    for _ in range(count):
        drawn = random.integers(0, len(sizes), len(sizes))
        lengths = sizes[drawn]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        yield by_group[np.repeat(starts[drawn], lengths) + within]


def student(units: int) -> float:
    """The 97.5 % quantile of Student's t for so many units, by its expansion about the normal's (Fisher 1926)."""
    freedom = max(units - 1, 1)
    first, second = Z95**3 + Z95, 5 * Z95**5 + 16 * Z95**3 + 3 * Z95
    return Z95 + first / (4 * freedom) + second / (96 * freedom**2)
