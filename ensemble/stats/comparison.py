"""Is one prediction truly better than another, or was it luck? A paired test and a plain sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ensemble.core.predictions import Floats, Ints, Texts, Wide
from ensemble.metrics import Metric, labels
from ensemble.stats.intervals import Difference, difference, drawn_scores, expanded, group_codes, of_draws, units_of

LEVEL, CLEAR = 0.05, 0.01
"""A p-value below the first is taken for a difference, one below the second for a clear one."""

MOST_DRAWS, FEWEST_DRAWS, DRAWN_ROWS = 1000, 200, 20_000_000


@dataclass(frozen=True)
class Comparison:
    """What separates the ensemble from another prediction, called `name`.

    difference, low, high: our score less theirs and its 95 % interval, in the metric's own direction.
    only_ours, only_theirs: rows on which only this one's most probable class is right.
    test: `McNemar`, `McNemar by group`, `paired bootstrap` or `none`, where nothing differs.
    """

    name: str
    difference: float
    low: float
    high: float
    p_value: float
    only_ours: int
    only_theirs: int
    test: str
    sentence: str


def compare(
    metric: Metric,
    repeats: Sequence[tuple[Floats, Floats]],
    targets: Ints,
    groups: Texts | None,
    name: str,
) -> Comparison:
    """Compare two predictions, the other called `name`, on targets (n,), all known; groups (n,) or None.

    repeats: probs (n, k), ours and theirs, for each division into folds. Rows are counted on the one of the
    median difference; a bootstrapped difference is the mean over all.

    Accuracy by the exact two-sided test of McNemar (1947), which swaps whole groups where there are groups;
    any other metric by the paired bootstrap of rows or groups (Efron & Tibshirani 1993, 16).
    """
    ours, theirs = _median(metric, repeats, targets)
    balance = (labels(ours) == targets).astype(np.int64) - (labels(theirs) == targets)
    only_ours, only_theirs = int((balance > 0).sum()), int((balance < 0).sum())
    codes = None if groups is None else group_codes(groups)
    if np.array_equal(metric.of(ours, targets), metric.of(theirs, targets)):
        found, p_value, test = difference(metric, ours, theirs, targets, groups), 1.0, "none"
        sentence = _same(metric, name, len(targets))
    elif metric.name == "accuracy":
        found = difference(metric, ours, theirs, targets, groups)
        units = balance if codes is None else np.bincount(codes, balance).astype(np.int64)
        p_value, test = mcnemar(units), "McNemar" if codes is None else "McNemar by group"
        counts = f"right on {_images(only_ours)} where it is wrong, wrong on {only_theirs} where it is right"
        sentence = f"{_verdict(metric, found, p_value, name, len(targets))}: {counts} ({test} {_p(p_value)})."
    else:
        found, p_value, least = _bootstrapped(metric, repeats, targets, codes)
        test = "paired bootstrap"
        means = np.mean([[metric(probs, targets) for probs in pair] for pair in repeats], axis=0).tolist()
        scores = _scores(metric, means[0], means[1], found)
        sentence = f"{_verdict(metric, found, p_value, name, len(targets))}: {scores}, {_p(p_value, least)})."
    sentence = sentence[0].upper() + sentence[1:]
    return Comparison(name, found.value, found.low, found.high, p_value, only_ours, only_theirs, test, sentence)


def _median(metric: Metric, repeats: Sequence[tuple[Floats, Floats]], targets: Ints) -> tuple[Floats, Floats]:
    gaps = [metric(ours, targets) - metric(theirs, targets) for ours, theirs in repeats]
    order = sorted(range(len(gaps)), key=lambda index: (gaps[index], index))
    return repeats[order[len(order) // 2]]


def mcnemar(balances: npt.NDArray[np.int64]) -> float:
    """The exact two-sided p-value of McNemar's test, from the balance of each independent unit.

    balances: int64 (units,), rows of the unit that only one prediction has right less those that only the other
    has; 1, 0 or -1 where every row is a unit. If neither is better, each is as likely with the other sign, which
    makes their sum a sum of scaled binomials; for single rows that is the sign test of the differing rows.
    """
    observed = abs(int(balances.sum()))
    sizes, counts = np.unique(np.abs(balances[balances != 0]), return_counts=True)
    chances = np.ones(1)
    for many, size in sorted(zip(counts.tolist(), sizes.tolist(), strict=True), reverse=True):
        chances = _with_coins(chances, many, size)
    # entry i is the chance of the sum 2 i - (len - 1); the two tails are equal
    tail = chances[(observed + len(chances)) // 2 :]
    return 1.0 if observed == 0 else float(min(1.0, 2 * tail.sum()))


def _with_coins(chances: Wide, many: int, size: int) -> Wide:
    """The chances of a sum after `many` fair coins worth `size` are added to it."""
    heads = _fair_coins(many)
    if len(chances) == 1 and size == 1:
        return heads
    out = np.zeros(len(chances) + many * size)
    for count, chance in enumerate(heads.tolist()):
        out[count * size : count * size + len(chances)] += chance * chances
    return out


def _fair_coins(many: int) -> Wide:
    """The chance of 0, 1, ... heads of `many` fair coins."""
    logs = np.array([math.lgamma(i + 1) for i in range(many + 1)])
    chances: Wide = np.exp(logs[-1] - logs - logs[::-1] - many * math.log(2))
    return chances


def _bootstrapped(
    metric: Metric, repeats: Sequence[tuple[Floats, Floats]], targets: Ints, codes: Ints | None
) -> tuple[Difference, float, float]:
    """The mean difference, its p-value, and the smallest p-value that so many draws and units can give."""
    draws = min(MOST_DRAWS, max(FEWEST_DRAWS, DRAWN_ROWS // (len(targets) * len(repeats))))
    drawn = [[drawn_scores(metric, probs, targets, codes, draws) for probs in pair] for pair in repeats]
    value = float(np.mean([metric(ours, targets) - metric(theirs, targets) for ours, theirs in repeats]))
    units = units_of(targets, codes)
    gaps = expanded(value, np.mean([mine - other for mine, other in drawn], axis=0), units)
    tail = min(np.count_nonzero(gaps <= 0), np.count_nonzero(gaps >= 0)) + 1
    # few units point one way by chance at least this often
    least = max(2 / (len(gaps) + 1), min(1.0, 2.0 ** (1 - units)))
    return of_draws(value, gaps).within(metric), float(min(1.0, max(least, 2 * tail / (len(gaps) + 1)))), least


def _verdict(metric: Metric, found: Difference, p_value: float, name: str, n: int) -> str:
    if p_value >= LEVEL:
        return f"no better and no worse than {name} as far as these {_images(n)} can tell"
    word, luck = ("better", "luck") if found.gain(metric).value > 0 else ("worse", "bad luck")
    return f"{word} than {name}, and {'' if p_value < CLEAR else 'probably '}not by {luck}"


def _same(metric: Metric, name: str, n: int) -> str:
    if metric.name == "accuracy":
        what = f"both give each of these {_images(n)} the same label"
    elif metric.rows is not None:
        what = f"both have the same {metric.name} on each of these {_images(n)}"
    else:
        what = f"on these {_images(n)} both have the same {metric.name}"
    return f"no different from {name}: {what}."


def _scores(metric: Metric, ours: float, theirs: float, found: Difference) -> str:
    better = "higher" if metric.higher else "lower"
    return (
        f"{metric.name} {ours:.4f} against {theirs:.4f}, {better} is better"
        f" (difference {found.value:+.4f}, 95 % interval {found.low:+.4f} to {found.high:+.4f}"
    )


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count} images"


def _p(p_value: float, least: float = 1e-6) -> str:
    """`p = 0.00002`: never in powers of ten, and no smaller than could be found."""
    if p_value <= least:
        return f"p < {_decimal(least if least < 1e-3 else math.ceil(1000 * least) / 1000)}"
    return f"p = {_decimal(p_value)}"


def _decimal(value: float) -> str:
    needed = math.ceil(-math.log10(value))
    return f"{value:.{max(needed, min(needed + 1, 3))}f}"
