"""Members that can go without a loss."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.pools import ACCURACY, BRIER
from helpers.synthetic import members
from helpers.without_members import Mean, brought, shortened

from ensemble.combine.member_elimination import eliminate_members
from ensemble.metrics import find, metrics


@pytest.mark.parametrize("name", ["log_loss", "brier"])
def test_clones_are_eliminated(name):
    probs, targets = members(2, 500, seed=1, own=2.0, skill=2.5)
    result = shortened(metrics.get(name), probs[[0, 0, 0, 1, 1, 1]], targets, [1.0, 2.0, 3.0, 1.0, 1.0, 4.0])
    assert result.dropped in ((1, 2, 4, 5), (1, 2, 3, 5))  # of twins the slow ones go
    assert result.difference.value == pytest.approx(0, abs=1e-7)
    assert result.speedup == pytest.approx(6.0)


def test_broken_member_is_eliminated_and_the_rest_improves():
    probs, targets = members(4, 2000, own=2.0)
    probs[2] = probs[2][::-1]
    result = shortened(ACCURACY, probs, targets)
    assert 2 in result.dropped and result.difference.value > 0 and result.speedup is None


def test_members_that_all_help_are_kept():
    probs, targets = members(4, 4000, shared=0.0, own=2.0)
    assert shortened(ACCURACY, probs, targets) is None
    assert shortened(BRIER, probs, targets) is None


@pytest.mark.parametrize("name", ["accuracy", "brier"])
@pytest.mark.parametrize("seed", range(6))
def test_kept_members_are_as_good(seed, name):
    probs, targets = members(9, 1500, seed=seed, own=np.linspace(0.4, 1.5, 9), shared=2.0)
    metric, mean = metrics.get(name), Mean(probs)
    result = eliminate_members(metric, mean(()), mean, targets, None, [1.0] * 9)
    if result is None:
        return
    change = metric(mean(result.dropped), targets) - metric(mean(()), targets)
    assert result.difference.value == pytest.approx(change)
    loss = -change if metric.higher else change / metric(mean(()), targets)
    assert loss <= (0.001 if metric.higher else 0.01) + 1e-9
    assert result.difference.low <= result.difference.value <= result.difference.high
    assert result.speedup == pytest.approx(9 / (9 - len(result.dropped)))


def test_small_but_certain_loss_is_not_as_good():
    probs, targets = members(2, 500)
    whole, wrong = Mean(probs)(()), np.eye(3)[(targets + 1) % 3]
    rest = 0.998 * whole + 0.002 * wrong
    assert 0 < BRIER(rest, targets) - BRIER(whole, targets) < 0.01 * BRIER(whole, targets)
    assert eliminate_members(BRIER, whole, lambda gone: rest, targets, None, [1.0, 1.0]) is None


def test_known_gains_save_calls():
    probs, targets = members(30, 300, shared=2.0)
    gains = [item.gain.value for item in brought(ACCURACY, probs, targets)]
    fresh, reported = Mean(probs), Mean(probs)
    whole, costs = Mean(probs)(()), [1.0] * 30
    result = eliminate_members(ACCURACY, whole, fresh, targets, None, costs)
    assert result == eliminate_members(ACCURACY, whole, reported, targets, None, costs, gains)
    assert len(fresh.requested) - len(reported.requested) == 30
    assert len(reported.requested) <= 3 * 30


def test_elimination_as_text():
    probs, targets = members(1, 50)
    twins = np.repeat(probs, 3, axis=0)
    flatters = "(picked on these very images, which flatters it a little)"
    fast = shortened(ACCURACY, twins, targets, [1.0, 1.0, 2.0])
    assert fast.sentence == f"drop these 2: +0.00 points, 4.0 times faster {flatters}"
    assert (
        shortened(ACCURACY, twins, targets, [1.0, None, 2.0]).sentence == f"drop these 2: +0.00 points {flatters}"
    )
    by_loss = shortened(BRIER, twins[:2], targets)
    assert by_loss.sentence == f"drop this one: brier +0.0000 where less is better {flatters}"


def test_member_without_which_no_score_exists_is_kept():
    probs, targets = members(3, 20, k=2)
    assert shortened(find("roc_auc:b", ["a", "b"]), probs, targets * 0) is None
