"""Confidence intervals: Wilson, bootstrap, groups."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.pools import ACCURACY
from helpers.synthetic import stack

from ensemble.metrics import metrics
from ensemble.stats.intervals import bootstrap, interval, wilson


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.277533),
        (5, 10, 0.236593, 0.763407),
        (10, 10, 0.722467, 1.0),
        (95, 100, 0.888249, 0.978456),
    ],
)
def test_wilson_interval(hits, n, low, high):
    assert wilson(hits, n) == pytest.approx((low, high), abs=1e-6)


def test_bootstrap_of_independent_rows_is_near_wilson():
    probs, targets = stack(1, 400, 3, 0)
    assert bootstrap(ACCURACY, [probs[0]], targets) == pytest.approx(
        interval(ACCURACY, [probs[0]], targets, None), abs=0.015
    )


def test_groups_widen_the_interval():
    """Forty rows, each ten times over: the interval is that of forty rows."""
    probs, targets = stack(1, 40, 3, 0)
    groups = np.array([f"g{i % 40}" for i in range(400)])
    many, answers = np.tile(probs[0], (10, 1)), np.tile(targets, 10)
    low, high = interval(ACCURACY, [many], answers, groups)
    few = bootstrap(ACCURACY, [probs[0]], targets)
    alone = interval(ACCURACY, [many], answers, None)
    assert high - low == pytest.approx(few[1] - few[0], abs=0.04)
    assert high - low > 2 * (alone[1] - alone[0])


@pytest.mark.parametrize("name", metrics.names())
def test_intervals_contain_the_score_and_repeat(name):
    probs, targets = stack(1, 120, 3, 4)
    metric = metrics.get(name)
    low, high = interval(metric, [probs[0]], targets, None)
    assert low < metric(probs[0], targets) < high
    assert (low, high) == interval(metric, [probs[0]], targets, None)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "macro_f1"])
def test_interval_of_a_perfect_score_has_width(name, grouped):
    probs, targets = np.eye(3, dtype=np.float32)[np.arange(60) % 3], np.arange(60) % 3
    groups = np.array([f"g{i // 3}" for i in range(60)]) if grouped else None
    low, high = interval(metrics.get(name), [probs], targets, groups)
    assert (low, high) == pytest.approx(wilson(20, 20) if grouped else wilson(60, 60))


@pytest.mark.filterwarnings("error")
def test_wilson_interval_of_none_or_all() -> None:
    assert [n for n in range(1, 200) if wilson(0, n)[0] > 0 or wilson(n, n)[1] < 1] == []
