"""95 % confidence intervals of a score, and of the difference of two scores on the same rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from ensemble.core.estimate import Estimate
from ensemble.core.predictions import Floats, Ints, Texts, Wide
from ensemble.metrics import Metric

DRAWS = 1000
SEED = 0
Z95 = 1.959963984540054


def wilson(hits: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion: `hits` of `n` rows, n at least 1."""
    share, spread = hits / n, Z95**2 / n
    middle = (share + spread / 2) / (1 + spread)
    half = Z95 / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    # rounding must not exclude the proportion itself
    return max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share))


def interval(metric: Metric, repeats: Sequence[Floats], targets: Ints, groups: Texts | None) -> tuple[float, float]:
    """The 95 % interval of a score: targets (n,) all known, groups (n,) or None.

    repeats: predictions (n, k) of the same rows, one array per repeat; the score is the mean over repeats.
    Wilson's interval for the accuracy of independent rows; otherwise bootstrap percentiles, with whole groups
    resampled. If all draws of a proportion are equal, Wilson's interval again. nan if the score is nan, or if
    all draws of a loss are equal.
    """
    n = len(targets)
    if metric.name == "accuracy" and groups is None:
        return wilson(float(np.mean([round(metric(probs, targets) * n) for probs in repeats])), n)
    low, high = bootstrap(metric, repeats, targets, groups)
    if low < high:
        return low, high
    # equal draws do not imply an interval of zero width
    units = n if groups is None else len(set(groups.tolist()))
    return wilson(low * units, units) if metric.higher and 0 <= low <= 1 else (math.nan, math.nan)


def bootstrap(
    metric: Metric, repeats: Sequence[Floats], targets: Ints, groups: Texts | None = None, count: int = DRAWS
) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of the score over seeded bootstrap draws of rows, or of whole groups.

    Draws on which the score is undefined are left out. The draws are widened for few units, see `expanded`, and
    the interval is clipped to the metric's range.
    """
    views = [metric.view(probs, targets) for probs in repeats]

    def scored(rows: Ints) -> float:
        return float(np.mean([metric.summary(view[rows], targets[rows]) for view in views]))

    scores = np.array([scored(rows) for rows in draws(len(targets), groups, count)])
    value = float(np.mean([metric.summary(view, targets) for view in views]))
    known = expanded(value, scores, units_of(targets, groups))
    if not len(known):
        return math.nan, math.nan
    low, high = np.percentile(known, [2.5, 97.5])
    # a chance-corrected agreement may be negative; without a negative draw the interval stops at 0
    least = metric.least if (scores < 0).any() else max(0.0, metric.least)
    return max(least, float(low)), min(metric.most, float(high))


def units_of(targets: Ints, groups: Texts | Ints | None) -> int:
    """The number of independent units: rows, or groups."""
    return len(targets) if groups is None else len(np.unique(groups))


def expanded(value: float, scores: Wide, units: int) -> Wide:
    """The finite draws of a score (draws,), spread about `value` to correct for few units.

    The bootstrap distribution is too narrow by the ratio of a Student's t interval with n - 1 in the variance to
    a normal interval with n (Hesterberg 2015, 3.2).
    """
    known = scores[np.isfinite(scores)]
    widened: Wide = value + (known - value) * student(units) / Z95 * math.sqrt(units / max(units - 1, 1))
    return widened


def draws(n: int, groups: Texts | None, count: int) -> Iterator[Ints]:
    """Seeded bootstrap draws: row indices of n rows with replacement, or of all groups with replacement."""
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
    """The 97.5 % quantile of Student's t with units - 1 degrees of freedom, by Fisher's expansion (1926)."""
    degrees = max(units - 1, 1)
    first, second = Z95**3 + Z95, 5 * Z95**5 + 16 * Z95**3 + 3 * Z95
    return Z95 + first / (4 * degrees) + second / (96 * degrees**2)


PAIRED_DRAWS = 200
"""Default number of draws of the paired bootstrap."""

FEWEST_DRAWS = 100
"""With fewer draws a normal interval replaces the percentiles, which would be too coarse."""


@dataclass(frozen=True)
class Difference(Estimate):
    """The difference of two predictions' scores on the same rows. se: its standard error."""

    low: float = math.nan
    high: float = math.nan
    se: float = math.nan

    @property
    def estimate(self) -> Estimate:
        """The same without its standard error."""
        return Estimate(self.value, self.low, self.high)

    def facts(self) -> dict[str, float]:
        """Plain values for JSON."""
        return {"value": self.value, "se": self.se, "low": self.low, "high": self.high}

    def gain(self, metric: Metric) -> Difference:
        """The same with its sign set so that a positive value is an improvement."""
        return self if metric.higher else self.opposite()

    def within(self, metric: Metric) -> Difference:
        """The same, its interval clipped to the possible differences of two scores of `metric`."""
        width = metric.most - metric.least
        low, high = np.clip([self.low, self.high], -width, width).tolist()
        return replace(self, low=low, high=high)

    def opposite(self) -> Difference:
        """The difference with both predictions exchanged."""
        # 0 - value instead of -value, which would turn 0.0 into -0.0
        return Difference(0 - self.value, 0 - self.high, 0 - self.low, self.se)


DifferenceFunction = Callable[[Floats], Difference]


def difference(
    metric: Metric, probs: Floats, reference: Floats, targets: Ints, groups: Texts | None, count: int = PAIRED_DRAWS
) -> Difference:
    """metric(probs) - metric(reference): both (n, k), targets (n,) all known, groups (n,) or None.

    If the score is a mean over rows: from the differences per row, with their cluster-robust standard error
    (Liang & Zeger 1986) and Student's interval. For the accuracy of independent rows half a row is added to each
    of the four cells, so that few differing rows do not give a degenerate interval (Agresti & Min 2005). Otherwise
    from `count` seeded draws of rows or of whole groups, the same for both predictions.
    """
    return differences(metric, probs, [reference], targets, groups, count)[0]


def differences(
    metric: Metric,
    probs: Floats,
    references: Iterable[Floats],
    targets: Ints,
    groups: Texts | None,
    count: int = PAIRED_DRAWS,
) -> list[Difference]:
    """`difference` of one prediction to each of `references`, which are consumed one at a time."""
    return list(map(prepared_difference(metric, probs, targets, groups, count), references))


def prepared_difference(
    metric: Metric, probs: Floats, targets: Ints, groups: Texts | None, count: int = PAIRED_DRAWS
) -> DifferenceFunction:
    """`difference` as a function of `reference`; everything about `probs` is computed once."""
    codes = None if groups is None else group_codes(groups)
    prepare = _by_draws if metric.rows is None else _by_rows
    return prepare(metric, probs, targets, codes, count)


def group_codes(groups: Texts) -> Ints:
    """Each row's group as an integer code, int64 (n,), in the sort order of the group names."""
    codes: Ints = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    return codes


def drawn_scores(metric: Metric, probs: Floats, targets: Ints, codes: Ints | None, count: int) -> Wide:
    """The score of probs (n, k) on seeded draws of rows, or of whole groups: float64 (count,).

    The draws depend only on n and `codes` (see `group_codes`), so that the scores of two predictions are paired.
    """
    view = metric.view(probs, targets)
    # integer codes sort faster than names, and they are sorted once per prediction
    groups = cast("Texts | None", codes)
    scores = [metric.summary(view[rows], targets[rows]) for rows in draws(len(targets), groups, count)]
    return np.array(scores, np.float64)


def _by_rows(metric: Metric, probs: Floats, targets: Ints, codes: Ints | None, count: int) -> DifferenceFunction:
    values = _row_values(metric, probs, targets)
    share = metric.name == "accuracy"

    def difference_to(reference: Floats) -> Difference:
        return _of_gaps(values - _row_values(metric, reference, targets), codes, share).within(metric)

    return difference_to


def _by_draws(metric: Metric, probs: Floats, targets: Ints, codes: Ints | None, count: int) -> DifferenceFunction:
    score, drawn = metric(probs, targets), drawn_scores(metric, probs, targets, codes, count)

    def difference_to(reference: Floats) -> Difference:
        value = score - metric(reference, targets)
        gaps = drawn - drawn_scores(metric, reference, targets, codes, count)
        return of_draws(value, expanded(value, gaps, units_of(targets, codes))).within(metric)

    return difference_to


def _row_values(metric: Metric, probs: Floats, targets: Ints) -> Wide:
    assert metric.rows is not None
    return metric.rows(metric.view(probs, targets), targets)


def of_draws(value: float, gaps: Wide) -> Difference:
    """A Difference from its `expanded` draws (draws,): percentiles, or a normal interval for few draws."""
    if len(gaps) < 2:
        return Difference(value)
    se = float(np.std(gaps, ddof=1))
    if len(gaps) < FEWEST_DRAWS:
        return _normal(value, se)
    low, high = np.percentile(gaps, [2.5, 97.5])
    return Difference(value, float(low), float(high), se)


def _of_gaps(gaps: Wide, codes: Ints | None, share: bool) -> Difference:
    """gaps: float64 (n,), the two predictions' differences per row.  share: whether all are -1, 0 or 1."""
    value = float(gaps.mean())
    centred = gaps - value
    units = centred if codes is None else np.bincount(codes, centred)
    spread = math.sqrt(float(units @ units) * len(units) / max(len(units) - 1, 1))
    normal = _normal(value, spread / len(gaps), student(len(units)))
    if share and codes is None:
        return Difference(value, *_of_cells(float(gaps.sum()), float(np.abs(gaps).sum()), len(gaps)), normal.se)
    if share and not gaps.any():  # no differing row does not imply an interval of zero width
        return Difference(value, *_of_cells(0.0, 0.0, len(units)), normal.se)
    return normal


def _of_cells(balance: float, discordant: float, n: int) -> tuple[float, float]:
    middle = balance / (n + 2)
    half = Z95 * math.sqrt(discordant + 1 - balance**2 / (n + 2)) / (n + 2)
    return max(-1.0, middle - half), min(1.0, middle + half)


def _normal(value: float, se: float, quantile: float = Z95) -> Difference:
    return Difference(value, value - quantile * se, value + quantile * se, se)
