"""Rules: by hand, the same for one row and a thousand, whatever the layout in memory."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.pools import ACCURACY, LOG_LOSS, plan, pool, split
from helpers.synthetic import stack
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.combine.aligned import Split
from ensemble.combine.arrays import fixed_order
from ensemble.combine.evaluate import evaluate
from ensemble.combine.rules import normalised, rules, stored_weights
from ensemble.core.errors import RecipeError
from ensemble.metrics import metrics


def test_accuracy_weights_by_hand():
    # members right on 3, 2 and 1 of four rows
    targets = np.array([0, 0, 0, 0])
    right, wrong = [0.75, 0.25], [0.125, 0.875]
    probs = np.array([[right] * hits + [wrong] * (4 - hits) for hits in (3, 2, 1)], np.float32)
    params = rules.get("accuracy").fit(probs, targets)
    assert params["weights"].tolist() == [3 / 6, 2 / 6, 1 / 6]
    mixed = rules.get("accuracy").apply(params, probs)
    assert mixed[1] == pytest.approx([(5 * 0.75 + 0.125) / 6, (5 * 0.25 + 0.875) / 6], abs=1e-15)


def test_accuracy_of_members_that_are_always_wrong_is_the_plain_mean():
    probs = np.array([[[0.1, 0.9]], [[0.2, 0.8]]], np.float32)
    assert rules.get("accuracy").fit(probs, np.array([0]))["weights"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("name", [name for name in rules.names() if name != "auto"])
@settings(max_examples=25)
@given(m=st.integers(1, 5), n=st.integers(1, 40), k=st.integers(2, 20), seed=st.integers(0, 99))
def test_rule_works_row_by_row(name, m, n, k, seed):
    row_by_row(name, m, n, k, seed)


def test_auto_works_row_by_row():
    row_by_row("auto", 3, 30, 4, 0)


def row_by_row(name, m, n, k, seed):
    probs, targets = stack(m, n, k, seed)
    rule = rules.get(name)
    params = rule.fit(probs, targets)
    together = rule.apply(params, probs)
    alone = np.concatenate([rule.apply(params, probs[:, i : i + 1]) for i in range(n)])
    strided = rule.apply(params, np.asfortranarray(probs))
    assert together.dtype == np.float64
    assert together.tobytes() == alone.tobytes() == np.ascontiguousarray(strided).tobytes()
    assert np.abs(together.sum(axis=1) - 1).max() < 1e-12


def test_rule_without_weights_says_so():
    assert stored_weights({"coefficients": np.zeros(3)}) is None


def test_weights_for_other_members_are_refused():
    with pytest.raises(ValueError, match="2 members found, 1 expected by the rule uniform"):
        rules.get("uniform").apply({"weights": np.array([1.0])}, np.zeros((2, 3, 4)))


def test_normalised_sums_from_the_first_column_on():
    rows = np.array([[1.0, 2.0**-53, 2.0**-53]])  # pairwise from the end would reach 1 + 2**-52
    assert normalised(rows)[0, 0] == 1.0


def test_unknown_rule_lists_the_known():
    with pytest.raises(RecipeError, match=r"unknown combining rule 'logits'; did you mean 'logit-mean'"):
        rules.get("logits")


def test_fixed_order_settles_ties_by_content():
    natural, plain, odd = (np.array(names) for names in (["2", "10"], ["10", "2"], ["b", "a"]))
    for orders, first in (((natural, plain), natural), ((odd, odd[::-1]), odd[::-1])):
        for several in (orders, orders[::-1]):
            assert fixed_order(several).tolist() == first.tolist()
    x, y = np.array(["b", "c", "a"]), np.array(["c", "a", "b"])
    assert fixed_order([x, y]).tolist() == fixed_order([y, x]).tolist() == ["b", "c", "a"]


@pytest.mark.parametrize("name", rules.names())
def test_rules_ignore_the_order_of_rows(name):
    """Rows are decided on in the order of their ids, so not even the last bit of a sum depends on a file's."""
    probs, targets = pool([0.4, 1, 2], n=60)
    order = np.random.default_rng(1).permutation(60)
    rows = split(probs, targets)
    moved = Split(rows.ids[order], rows.classes, probs[:, order], targets[order], None)
    first, other = (evaluate(plan(3, name), given, [ACCURACY]) for given in (rows, moved))
    assert first.fitted.params.keys() == other.fitted.params.keys()
    assert all(
        first.fitted.params[key].tobytes() == other.fitted.params[key].tobytes() for key in first.fitted.params
    )
    assert first.fitted.temperature == other.fitted.temperature
    assert first.crossfitted[order].tobytes() == other.crossfitted.tobytes()


def test_logit_mean_by_hand():
    probs = np.array([[[0.8, 0.2]], [[0.5, 0.5]]], np.float32)
    rule = rules.get("logit-mean")
    odds = np.sqrt(0.8 / 0.2)
    assert rule.apply(rule.fit(probs, np.array([0])), probs)[0, 0] == pytest.approx(odds / (1 + odds), abs=1e-6)


def test_log_odds_by_hand():
    targets = np.zeros(10, np.int64)
    right, wrong = [0.9, 0.1], [0.1, 0.9]
    probs = np.array([[right] * hits + [wrong] * (10 - hits) for hits in (9, 7, 5, 2)], np.float32)
    weights = rules.get("log-odds").fit(probs, targets)["weights"]
    expected = np.array([np.log(9), np.log(7 / 3), 0, 0])
    assert weights == pytest.approx(expected / expected.sum())


def test_rank_ignores_the_scale_of_a_member():
    probs, targets = pool([0.5, 1], n=400, k=2)
    squashed = probs.copy()
    logits = np.log(probs[1, :, 1] / probs[1, :, 0]) * 0.1 - 3
    squashed[1, :, 1] = 1 / (1 + np.exp(-logits))
    squashed[1, :, 0] = 1 - squashed[1, :, 1]
    rule, auc = rules.get("rank"), metrics.get("roc_auc")
    ours, theirs = (
        auc(rule.apply(rule.fit(item, targets), item).astype(np.float32), targets) for item in (probs, squashed)
    )
    assert ours == pytest.approx(theirs, abs=2e-3)


def test_per_class_weights_the_member_that_knows_the_class():
    random = np.random.default_rng(0)
    targets = random.integers(0, 3, 600)
    probs = np.full((2, 600, 3), 1 / 3, np.float32)
    # the first tells class 0 from the rest, the second 1 from 2
    probs[0][targets == 0] = [0.9, 0.05, 0.05]
    probs[0][targets != 0] = [0.1, 0.45, 0.45]
    probs[1][targets == 1] = [1 / 3, 0.6, 1 / 3 - 0.6 + 1 / 3]
    probs[1][targets == 2] = [1 / 3, 1 / 3 - 0.6 + 1 / 3, 0.6]
    weights = rules.get("per-class").fit(probs, targets)["by_class"]
    assert weights.sum(axis=0) == pytest.approx(np.ones(3), abs=1e-12)
    assert weights[0, 0] > 0.9
    assert weights[1, 1] > 0.4
    assert weights[1, 2] > 0.4


def test_stack_is_near_the_logit_mean_on_few_rows_and_learns_on_many():
    probs, targets = pool([0.3, 0.6, 4], n=4_000, sharpness=2)
    mean, stack = rules.get("logit-mean"), rules.get("stack")
    few = stack.apply(stack.fit(probs[:, :6], targets[:6]), probs)
    start = mean.apply(mean.fit(probs, targets), probs)
    assert np.abs(few - start).mean() < 0.15
    learnt = stack.apply(stack.fit(probs[:, :2_000], targets[:2_000]), probs[:, 2_000:])
    assert LOG_LOSS(learnt, targets[2_000:]) < LOG_LOSS(start[2_000:], targets[2_000:]) - 0.05


def test_convex_is_at_least_as_likely_as_each_member():
    probs, targets = pool([0.5, 1, 1.5], n=300, sharpness=3)
    rule = rules.get("convex")
    together = LOG_LOSS(rule.apply(rule.fit(probs, targets), probs), targets)
    for j in range(3):
        alone = probs[j : j + 1]
        assert together <= LOG_LOSS(rule.apply(rule.fit(alone, targets), alone), targets) + 1e-5
