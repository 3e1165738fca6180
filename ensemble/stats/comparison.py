"""Paired significance test of two predictions on the same rows, with the result as a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ensemble.core.estimate import Estimate
from ensemble.core.predictions import Floats, Ints, Texts, Wide
from ensemble.metrics import Metric, labels
from ensemble.stats.intervals import Difference, difference, drawn_scores, expanded, group_codes, of_draws, units_of

LEVEL, CLEAR = 0.05, 0.01
"""A difference is significant below the first p-value, and clear below the second."""

MOST_DRAWS, FEWEST_DRAWS, DRAWN_ROWS = 1000, 200, 20_000_000


@dataclass(frozen=True)
class Comparison:
    """The ensemble compared with a reference prediction called `name`.

    difference: the ensemble's score minus the reference's, in the metric's own direction. only_ours, only_theirs:
    number of rows on which only the ensemble's (only the reference's) label is right. test: `McNemar`, `McNemar by
    group`, `paired bootstrap`, or `none` if nothing differs.
    """

    name: str
    difference: Estimate
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
    """Compare a prediction with a reference called `name`, on targets (n,), all known; groups (n,) or None.

    repeats: pairs of probs and reference, (n, k) each, one pair per division into folds. Rows are counted on the
    repeat with the median difference; a bootstrapped difference is the mean over all repeats.

    Accuracy is tested by the exact two-sided test of McNemar (1947), exchanging whole groups if there are groups;
    any other metric by the paired bootstrap of rows or groups (Efron & Tibshirani 1993, chapter 16).
    """
    probs, reference = _median(metric, repeats, targets)
    balance = (labels(probs) == targets).astype(np.int64) - (labels(reference) == targets)
    only_ours, only_theirs = int((balance > 0).sum()), int((balance < 0).sum())
    codes = None if groups is None else group_codes(groups)
    if np.array_equal(metric.view(probs, targets), metric.view(reference, targets)):
        gap, p_value, test = difference(metric, probs, reference, targets, groups), 1.0, "none"
        sentence = _same(metric, name, len(targets))
    elif metric.name == "accuracy":
        gap = difference(metric, probs, reference, targets, groups)
        units = balance if codes is None else np.bincount(codes, balance).astype(np.int64)
        p_value, test = mcnemar(units), "McNemar" if codes is None else "McNemar by group"
        counts = f"right on {_images(only_ours)} where it is wrong, wrong on {only_theirs} where it is right"
        sentence = f"{_verdict(metric, gap, p_value, name, len(targets))}: {counts} ({test} {_p(p_value)})."
    else:
        gap, p_value, least = _bootstrapped(metric, repeats, targets, codes)
        test = "paired bootstrap"
        means = np.mean([[metric(side, targets) for side in pair] for pair in repeats], axis=0).tolist()
        scores = _scores(metric, means[0], means[1], gap)
        sentence = f"{_verdict(metric, gap, p_value, name, len(targets))}: {scores}, {_p(p_value, least)})."
    sentence = sentence[0].upper() + sentence[1:]
    return Comparison(name, gap.estimate, p_value, only_ours, only_theirs, test, sentence)


def _median(metric: Metric, repeats: Sequence[tuple[Floats, Floats]], targets: Ints) -> tuple[Floats, Floats]:
    gaps = [metric(probs, targets) - metric(reference, targets) for probs, reference in repeats]
    order = sorted(range(len(gaps)), key=lambda index: (gaps[index], index))
    return repeats[order[len(order) // 2]]


def mcnemar(balances: npt.NDArray[np.int64]) -> float:
    """The exact two-sided p-value of McNemar's test, from the balance of each independent unit.

    balances: int64 (units,), rows of the unit that only the first prediction has right minus rows that only the
    second has right; 1, 0 or -1 if every row is a unit. Under the null hypothesis the sign of each is random, so
    their sum is a sum of scaled binomials; for single rows this is the sign test of the differing rows.
    """
    observed = abs(int(balances.sum()))
    sizes, counts = np.unique(np.abs(balances[balances != 0]), return_counts=True)
    distribution = np.ones(1)
    for count, size in sorted(zip(counts.tolist(), sizes.tolist(), strict=True), reverse=True):
        distribution = _with_coins(distribution, count, size)
    # entry i is the probability of the sum 2 i - (len - 1); the two tails are equal
    tail = distribution[(observed + len(distribution)) // 2 :]
    return 1.0 if observed == 0 else float(min(1.0, 2 * tail.sum()))


def _with_coins(distribution: Wide, count: int, size: int) -> Wide:
    """The distribution of a sum convolved with that of `count` fair coins worth `size` each."""
    binomial = _fair_coins(count)
    if len(distribution) == 1 and size == 1:
        return binomial
    out = np.zeros(len(distribution) + count * size)
    for successes, probability in enumerate(binomial.tolist()):
        out[successes * size : successes * size + len(distribution)] += probability * distribution
    return out


def _fair_coins(count: int) -> Wide:
    """The binomial probabilities of 0, 1, ... `count` successes, each with probability 1/2."""
    logs = np.array([math.lgamma(i + 1) for i in range(count + 1)])
    probabilities: Wide = np.exp(logs[-1] - logs - logs[::-1] - count * math.log(2))
    return probabilities


def _bootstrapped(
    metric: Metric, repeats: Sequence[tuple[Floats, Floats]], targets: Ints, codes: Ints | None
) -> tuple[Difference, float, float]:
    """The mean difference, its p-value, and the smallest p-value possible with this number of draws and units."""
    draws = min(MOST_DRAWS, max(FEWEST_DRAWS, DRAWN_ROWS // (len(targets) * len(repeats))))
    drawn = [[drawn_scores(metric, probs, targets, codes, draws) for probs in pair] for pair in repeats]
    value = float(np.mean([metric(probs, targets) - metric(reference, targets) for probs, reference in repeats]))
    units = units_of(targets, codes)
    gaps = expanded(
        value, np.mean([scores - reference_scores for scores, reference_scores in drawn], axis=0), units
    )
    tail = min(np.count_nonzero(gaps <= 0), np.count_nonzero(gaps >= 0)) + 1
    # with few units all of them may have the same sign by chance at least this often
    least = max(2 / (len(gaps) + 1), min(1.0, 2.0 ** (1 - units)))
    return of_draws(value, gaps).within(metric), float(min(1.0, max(least, 2 * tail / (len(gaps) + 1)))), least


def _verdict(metric: Metric, gap: Difference, p_value: float, name: str, n: int) -> str:
    if p_value >= LEVEL:
        return f"no better and no worse than {name} as far as these {_images(n)} can tell"
    word, luck = ("better", "luck") if gap.gain(metric).value > 0 else ("worse", "bad luck")
    return f"{word} than {name}, and {'' if p_value < CLEAR else 'probably '}not by {luck}"


def _same(metric: Metric, name: str, n: int) -> str:
    if metric.name == "accuracy":
        result = f"both give each of these {_images(n)} the same label"
    elif metric.rows is not None:
        result = f"both have the same {metric.name} on each of these {_images(n)}"
    else:
        result = f"on these {_images(n)} both have the same {metric.name}"
    return f"no different from {name}: {result}."


def _scores(metric: Metric, score: float, reference_score: float, gap: Difference) -> str:
    better, known = "higher" if metric.higher else "lower", gap.interval("+.4f")
    return (
        f"{metric.name} {score:.4f} against {reference_score:.4f}, {better} is better"
        f" (difference {gap.value:+.4f}{known and ', '}{known}"
    )


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count} images"


def _p(p_value: float, least: float = 1e-6) -> str:
    """`p = 0.00002`: in decimal notation, and not below the smallest possible p-value `least`."""
    if p_value <= least:
        return f"p < {_decimal(least if least < 1e-3 else math.ceil(1000 * least) / 1000)}"
    return f"p = {_decimal(p_value)}"


def _decimal(value: float) -> str:
    needed = math.ceil(-math.log10(value))
    return f"{value:.{max(needed, min(needed + 1, 3))}f}"
