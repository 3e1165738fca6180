"""`auto` takes the simplest rule that is as good as the best, and its score is nested."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.pools import ACCURACY, LOG_LOSS, plan, pool, split

from ensemble.combine.crossfit import ENOUGH_ROWS, repeated_folds
from ensemble.combine.evaluate import evaluate
from ensemble.combine.fit import Plan, Pool, decide
from ensemble.combine.rule_selection import RuleScore, candidate_rules, simplest
from ensemble.combine.rules import rules


def entries(*rows):
    return [RuleScore(f"rule{index}", *row) for index, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("rows", "metric", "chosen"),
    [
        ([(0.80, 0.011), (0.805, 0.01), (0.81, 0.0)], ACCURACY, 0),
        ([(0.79, 0.01), (0.805, 0.01), (0.81, 0.0)], ACCURACY, 1),
        ([(0.79, 0.001), (0.80, 0.001), (0.81, 0.0)], ACCURACY, 2),
        ([(0.50, 0.02), (0.41, 0.02), (0.40, 0.0)], LOG_LOSS, 1),
        ([(0.8, 0.0), (0.8, 0.0)], ACCURACY, 0),
        ([(np.nan, np.nan), (0.8, 0.0)], ACCURACY, 1),
        ([(np.nan, np.nan), (np.nan, np.nan)], ACCURACY, 0),
    ],
)
def test_simplest_rule_within_one_standard_error_wins(rows, metric, chosen):
    assert simplest(entries(*rows), metric) == chosen


def test_plain_mean_is_the_simplest_rule():
    names = [rule.name for rule in candidate_rules()]
    assert names[0] == "uniform"
    assert sorted(names) == sorted(set(rules.names()) - {"auto"})


def test_auto_averages_clones():
    probs, targets = pool([0.5])
    evaluation = evaluate(plan(4), split(np.repeat(probs, 4, axis=0), targets), [ACCURACY])
    assert evaluation.fitted.rule.name == "uniform"
    assert {entry.rule for entry in evaluation.tournament} == {rule.name for rule in candidate_rules()}


def test_auto_weights_members_of_mixed_strength():
    probs, targets = pool([0.2, 4, 4, 4, 4], n=600)
    evaluation = evaluate(plan(5), split(probs, targets), [ACCURACY])
    ours, plain, _ = evaluation.scores["accuracy"]
    assert evaluation.fitted.rule.name != "uniform"
    assert ours.honest.value > plain.honest.value + 0.02


def test_choice_of_the_rule_is_paid_for_in_the_honest_score():
    """Coins: whichever rule looks best on these rows, on others it is a coin."""
    apparent, honest = [], []
    for seed in range(4):
        random = np.random.default_rng(seed)
        probs = random.dirichlet(np.ones(2), (8, 60)).astype(np.float32)
        score = evaluate(plan(8), split(probs, random.integers(0, 2, 60)), [ACCURACY]).scores["accuracy"][0]
        apparent.append(score.apparent)
        honest.append(score.honest.value)
    assert abs(np.mean(honest) - 0.5) < 0.1
    assert np.mean(apparent) >= np.mean(honest)


@pytest.mark.parametrize("metric", [ACCURACY, LOG_LOSS])
def test_table_holds_the_score_of_each_rule(metric):
    probs, targets = pool([0.3, 1, 2], n=120)
    rows = split(probs, targets)
    table = {entry.rule: entry.score for entry in evaluate(plan(3, metric=metric), rows, [metric]).tournament}
    for name in ("accuracy", "greedy", "stack"):
        chosen = plan(3, name, metric)
        if name == "accuracy":  # in the tournament all have a temperature
            chosen = Plan(chosen.ids, chosen.archs, chosen.rule, calibrate=True, metric=metric)
        alone = metric(evaluate(chosen, rows, [metric]).crossfitted, targets)
        assert table[name] == pytest.approx(alone, abs=1e-12)


def test_few_rows_repeat_the_folds():
    ids = np.array([f"i{i}" for i in range(ENOUGH_ROWS)])
    targets = np.arange(ENOUGH_ROWS) % 3
    assert len(repeated_folds(ids, targets, None)) == 1
    few = repeated_folds(ids[:90], targets[:90], None)
    assert len(few) == 3
    assert (few[0].fold != few[1].fold).any()
    assert all((item.order == np.argsort(ids[:90])).all() for item in few)


def test_honest_score_is_the_mean_over_repeats():
    probs, targets = pool([0.5, 1, 3], n=90)
    evaluation = evaluate(plan(3, "convex"), split(probs, targets), [ACCURACY])
    repeats = [ACCURACY(item, targets) for item in evaluation.ensemble.honest]
    assert len(repeats) == 3
    assert evaluation.scores["accuracy"][0].honest.value == pytest.approx(np.mean(repeats))


def test_decision_does_not_keep_the_rows():
    probs, targets = pool([0.5, 1], n=50)
    (fitted,) = decide(plan(2, "stack"), [rules.get("stack")], Pool(probs, targets), np.arange(50))
    assert sum(array.size for array in fitted.params.values()) < 50


def test_nested_choice_is_as_bold_as_the_choice_on_all_rows():
    table = entries((0.80, 0.011), (0.81, 0.0))
    assert simplest(table, ACCURACY) == 0
    assert simplest(table, ACCURACY, 0.8) == 1
