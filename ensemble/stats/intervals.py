"""95 % intervals of a score, and of the difference of two on the same rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from ensemble.core.predictions import Floats, Ints, Texts, Wide
from ensemble.metrics import Metric

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


PAIRED_DRAWS = 200
"""Draws of the paired bootstrap, unless a caller asks for another number."""

FEWEST_DRAWS = 100
"""Percentiles of fewer say too little; a normal interval takes their place."""


@dataclass(frozen=True)
class Difference:
    """The score of one prediction less another's on the same rows, its standard error, its 95 % interval."""

    value: float
    se: float
    low: float
    high: float

    def gain(self, metric: Metric) -> Difference:
        """The same with the sign that makes a positive value an improvement."""
        return self if metric.higher else self.opposite()

    def within(self, metric: Metric) -> Difference:
        """The same, its interval cut to what a difference of two such scores can be."""
        width = metric.most - metric.least
        low, high = np.clip([self.low, self.high], -width, width).tolist()
        return replace(self, low=low, high=high)

    def opposite(self) -> Difference:
        """Theirs less ours."""
        # not -value, which makes nothing -0.0
        return Difference(0 - self.value, self.se, 0 - self.high, 0 - self.low)


Against = Callable[[Floats], Difference]


def difference(
    metric: Metric, ours: Floats, theirs: Floats, targets: Ints, groups: Texts | None, count: int = PAIRED_DRAWS
) -> Difference:
    """metric(ours) - metric(theirs): probs (n, k) both, targets (n,) all known, groups (n,) or None.

    Where the score is a mean over rows, from the rows' differences: their standard error, robust to groups
    (Liang & Zeger 1986), and Student's interval; for the accuracy of independent rows with half a row added to
    each of the four cells, so that few differing rows are not taken for certainty (Agresti & Min 2005). Else
    from `count` seeded draws of rows or of whole groups, the same for both predictions.
    """
    return differences(metric, ours, [theirs], targets, groups, count)[0]


def differences(
    metric: Metric,
    ours: Floats,
    others: Iterable[Floats],
    targets: Ints,
    groups: Texts | None,
    count: int = PAIRED_DRAWS,
) -> list[Difference]:
    """`difference` of one prediction with each of many, which are looked at one at a time."""
    return list(map(against(metric, ours, targets, groups, count), others))


def against(
    metric: Metric, ours: Floats, targets: Ints, groups: Texts | None, count: int = PAIRED_DRAWS
) -> Against:
    """`difference` waiting for `theirs`: what `ours` needs is computed once."""
    codes = None if groups is None else group_codes(groups)
    prepare = _by_draws if metric.rows is None else _by_rows
    return prepare(metric, ours, targets, codes, count)


def group_codes(groups: Texts) -> Ints:
    """The number of the group of every row, int64 (n,), in the order of the groups' names."""
    codes: Ints = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    return codes


def drawn_scores(metric: Metric, probs: Floats, targets: Ints, codes: Ints | None, count: int) -> Wide:
    """The score of probs (n, k) over seeded draws of rows, or of whole groups: float64 (count,).

    The draws are the same for every prediction of as many rows, which pairs them. codes: of `group_codes`.
    """
    looked_at = metric.of(probs, targets)
    # sorting numbers is quick, sorting names once for each prediction is not
    groups = cast("Texts | None", codes)
    scores = [metric.summary(looked_at[rows], targets[rows]) for rows in draws(len(targets), groups, count)]
    return np.array(scores, np.float64)


def _by_rows(metric: Metric, ours: Floats, targets: Ints, codes: Ints | None, count: int) -> Against:
    values = _row_values(metric, ours, targets)
    share = metric.name == "accuracy"

    def of(theirs: Floats) -> Difference:
        return _of_gaps(values - _row_values(metric, theirs, targets), codes, share).within(metric)

    return of


def _by_draws(metric: Metric, ours: Floats, targets: Ints, codes: Ints | None, count: int) -> Against:
    score, drawn = metric(ours, targets), drawn_scores(metric, ours, targets, codes, count)

    def of(theirs: Floats) -> Difference:
        value = score - metric(theirs, targets)
        gaps = drawn - drawn_scores(metric, theirs, targets, codes, count)
        return of_draws(value, expanded(value, gaps, units_of(targets, codes))).within(metric)

    return of


def _row_values(metric: Metric, probs: Floats, targets: Ints) -> Wide:
    assert metric.rows is not None
    return metric.rows(metric.of(probs, targets), targets)


def of_draws(value: float, gaps: Wide) -> Difference:
    """A difference from its `expanded` draws (draws,)."""
    if len(gaps) < 2:
        return Difference(value, math.nan, math.nan, math.nan)
    se = float(np.std(gaps, ddof=1))
    if len(gaps) < FEWEST_DRAWS:
        return _normal(value, se)
    low, high = np.percentile(gaps, [2.5, 97.5])
    return Difference(value, se, float(low), float(high))


def _of_gaps(gaps: Wide, codes: Ints | None, share: bool) -> Difference:
    """gaps: float64 (n,), a row's value in one prediction less in the other.  share: whether all are -1, 0, 1."""
    value = float(gaps.mean())
    centred = gaps - value
    units = centred if codes is None else np.bincount(codes, centred)
    spread = math.sqrt(float(units @ units) * len(units) / max(len(units) - 1, 1))
    plain = _normal(value, spread / len(gaps), student(len(units)))
    if share and codes is None:
        return Difference(value, plain.se, *_of_cells(float(gaps.sum()), float(np.abs(gaps).sum()), len(gaps)))
    if share and not gaps.any():  # no differing row among these says little, not everything
        return Difference(value, plain.se, *_of_cells(0.0, 0.0, len(units)))
    return plain


def _of_cells(balance: float, discordant: float, n: int) -> tuple[float, float]:
    middle = balance / (n + 2)
    half = Z95 * math.sqrt(discordant + 1 - balance**2 / (n + 2)) / (n + 2)
    return max(-1.0, middle - half), min(1.0, middle + half)


def _normal(value: float, se: float, errors: float = Z95) -> Difference:
    return Difference(value, se, value - errors * se, value + errors * se)
