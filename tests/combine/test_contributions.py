"""What each member contributes: the loss without it, disagreement, rows only it gets right."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from helpers.pools import ACCURACY, BRIER
from helpers.synthetic import members
from helpers.without_members import Mean, brought, shortened
from hypothesis import given
from hypothesis import strategies as st

from ensemble.combine.advice import Advice
from ensemble.combine.contributions import only_right
from ensemble.combine.member_elimination import Elimination
from ensemble.combine.report import Part, Report
from ensemble.core.estimate import Estimate
from ensemble.metrics import labels, metrics


def width(part):
    return part.gain.high - part.gain.low


@pytest.mark.parametrize("name", ["accuracy", "log_loss", "macro_f1", "roc_auc"])
def test_gain_is_the_loss_without_the_member(name):
    probs, targets = members(4, 200, own=[0.5, 1, 2, 4])
    metric, mean = metrics.get(name), Mean(probs)
    sign = 1 if metric.higher else -1
    for j, item in enumerate(brought(metric, probs, targets)):
        assert item.gain.value == pytest.approx(sign * (metric(mean(()), targets) - metric(mean((j,)), targets)))
        assert item.gain.low <= item.gain.value <= item.gain.high
    assert json.loads(json.dumps([asdict(item) for item in brought(metric, probs, targets)], allow_nan=False))


@pytest.mark.parametrize("name", ["accuracy", "log_loss"])
def test_good_member_helps_and_broken_member_hurts(name):
    probs, targets = members(4, 2000, own=[0.1, 1, 1, 1])
    probs[3] = probs[3][::-1]
    good, *_, broken = brought(metrics.get(name), probs, targets)
    assert good.gain.low > 0 and broken.gain.high < 0


def test_clone_has_no_gain():
    probs, targets = members(1, 300)
    for item in brought(metrics.get("log_loss"), np.repeat(probs, 3, axis=0), targets):
        assert item.gain.value == pytest.approx(0, abs=1e-7)
        assert item.disagreement == 0


def test_groups_make_a_gain_less_certain():
    probs, targets = members(3, 100)
    probs, targets = np.repeat(probs, 4, axis=1), np.repeat(targets, 4)
    groups = np.array([f"g{i // 4}" for i in range(400)])
    pairs = zip(brought(BRIER, probs, targets, groups), brought(BRIER, probs, targets), strict=True)
    assert all(width(with_groups) > 1.8 * width(item) for with_groups, item in pairs)


@given(m=st.integers(1, 6), n=st.integers(1, 30), k=st.integers(2, 5), seed=st.integers(0, 1000))
def test_disagreement_and_only_right_by_hand(m, n, k, seed):
    random = np.random.default_rng(seed)
    probs, targets = random.dirichlet(np.ones(k), (m, n)).astype(np.float32), random.integers(0, k, n)
    output = labels(probs)
    right = output == targets
    for j, item in enumerate(brought(ACCURACY, probs, targets)):
        others = [i for i in range(m) if i != j]
        differs = [np.mean(output[j] != output[i]) for i in others]
        assert item.disagreement == pytest.approx(np.mean(differs) if others else 0)
        assert only_right(right)[j] == np.sum(right[j] & ~right[others].any(axis=0))


def test_single_member_has_no_gain():
    probs, targets = members(1, 30)
    (alone,) = brought(ACCURACY, probs, targets)
    assert (alone.gain, alone.disagreement) == (None, 0)
    assert only_right(labels(probs[:1]) == targets) == [np.sum(labels(probs[0]) == targets)]
    assert shortened(ACCURACY, probs, targets) is None


@pytest.mark.parametrize(("count", "named"), [(1, "drop it: a"), (3, "drop it: keep d")])
def test_shorter_list_of_members_is_shown(count, named):
    parts = tuple(Part(name, Estimate(0.0, 0.0, 0.0), 0.1, 0, None) for name in "abcd")
    fewer = Elimination(tuple(range(count)), Estimate(0.0, 0.0, 0.0), None, "drop it")
    advice = Advice((), True, "stop")
    created = Report("accuracy", 10, (), (), parts, fewer, tuple("abcd"[:count]), advice)
    assert created.sentences() == [named, "stop"]
    assert created.facts()["shorter"]["dropped"] == list("abcd"[:count])
