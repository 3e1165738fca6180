"""`auto` takes the simplest rule that is as good as the best, and what it is worth is nested."""

from dataclasses import replace

import numpy as np
import pytest

from ensemble.combine.aligned import Split
from ensemble.combine.contributions import WithoutMembers
from ensemble.combine.crossfit import ENOUGH_ROWS, repeated_folds
from ensemble.combine.evaluate import evaluate
from ensemble.combine.fit import Plan, Pool, decide
from ensemble.combine.rule_selection import RuleScore, candidate_rules, simplest
from ensemble.combine.rules import rules
from ensemble.metrics import metrics

ACCURACY, LOG_LOSS = metrics.get("accuracy"), metrics.get("log_loss")


def pool(noises, n=300, k=3, seed=0, sharpness=1.0):
    """Members that see the same evidence, each through noise of its own."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, k, n)
    evidence = 2 * np.eye(k)[targets] + random.normal(size=(n, k))
    logits = np.stack([evidence + noise * random.normal(size=(n, k)) for noise in noises]) * sharpness
    probs = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return probs.astype(np.float32), targets


def split(probs, targets, groups=None):
    ids = np.array([f"item{i:04d}" for i in range(probs.shape[1])])
    return Split(ids, np.array(list("abcdefgh"[: probs.shape[2]])), probs, targets, groups)


def plan(m, rule="auto", metric=ACCURACY, **options):
    ids = tuple(f"run{i}" for i in range(m))
    entry = rules.get(rule)
    return Plan(ids, ids, entry, calibrate=entry.calibrates, metric=metric, **options)


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
def test_the_simplest_within_one_standard_error_wins(rows, metric, chosen):
    assert simplest(entries(*rows), metric) == chosen


def test_the_plain_mean_is_the_simplest_and_every_rule_competes():
    names = [rule.name for rule in candidate_rules()]
    assert names[0] == "uniform"
    assert sorted(names) == sorted(set(rules.names()) - {"auto"})


def test_clones_are_averaged():
    probs, targets = pool([0.5])
    evaluation = evaluate(plan(4), split(np.repeat(probs, 4, axis=0), targets), [ACCURACY])
    assert evaluation.fitted.rule.name == "uniform"
    assert {entry.rule for entry in evaluation.tournament} == {rule.name for rule in candidate_rules()}


def test_members_of_mixed_strength_are_not():
    probs, targets = pool([0.2, 4, 4, 4, 4], n=600)
    evaluation = evaluate(plan(5), split(probs, targets), [ACCURACY])
    ours, plain, _ = evaluation.scores["accuracy"]
    assert evaluation.fitted.rule.name != "uniform"
    assert ours.honest.value > plain.honest.value + 0.02


def test_the_choice_of_the_rule_is_no_free_lunch():
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
def test_the_table_is_what_each_rule_scores_alone(metric):
    probs, targets = pool([0.3, 1, 2], n=120)
    rows = split(probs, targets)
    table = {entry.rule: entry.score for entry in evaluate(plan(3, metric=metric), rows, [metric]).tournament}
    for name in ("accuracy", "greedy", "stack"):
        chosen = plan(3, name, metric)
        if name == "accuracy":  # in the tournament all have a temperature
            chosen = Plan(chosen.ids, chosen.archs, chosen.rule, calibrate=True, metric=metric)
        alone = metric(evaluate(chosen, rows, [metric]).crossfitted, targets)
        assert table[name] == pytest.approx(alone, abs=1e-12)


def test_other_folds_are_tried_where_rows_are_few():
    ids = np.array([f"i{i}" for i in range(ENOUGH_ROWS)])
    targets = np.arange(ENOUGH_ROWS) % 3
    assert len(repeated_folds(ids, targets, None)) == 1
    few = repeated_folds(ids[:90], targets[:90], None)
    assert len(few) == 3
    assert (few[0].fold != few[1].fold).any()
    assert all((one.order == np.argsort(ids[:90])).all() for one in few)


def test_the_honest_score_is_the_mean_over_repeats():
    probs, targets = pool([0.5, 1, 3], n=90)
    evaluation = evaluate(plan(3, "convex"), split(probs, targets), [ACCURACY])
    repeats = [ACCURACY(one, targets) for one in evaluation.ensemble.honest]
    assert len(repeats) == 3
    assert evaluation.scores["accuracy"][0].honest.value == pytest.approx(np.mean(repeats))


@pytest.mark.parametrize("name", [name for name in rules.names() if name != "auto"])
def test_nobody_left_out_is_the_ensemble_itself(name):
    probs, targets = pool([0.4, 1, 2, 3], n=100)
    rows = split(probs, targets)
    evaluation = evaluate(plan(4, name), rows, [ACCURACY])
    known = evaluation.folds.known()
    reduced = WithoutMembers(
        evaluation.fitted.selection.kept, evaluation, Pool(probs, targets), known, refit_temperature=True
    )
    assert reduced(()) == pytest.approx(evaluation.crossfitted[known], abs=1e-5)
    # a rule that decides on each member by itself is refitted by leaving one out
    if name in ("uniform", "accuracy"):
        fewer = evaluate(plan(3, name), split(probs[1:], targets), [ACCURACY])
        ours, theirs = reduced((0,)), fewer.crossfitted[known]
        assert ours == pytest.approx(theirs, abs=1e-5)
    for gone in ((0,), (1, 2), (0, 1, 2)):
        left = reduced(gone)
        assert np.isfinite(left).all()
        assert np.abs(left.sum(axis=1) - 1).max() < 1e-5
        assert (left != evaluation.crossfitted[known]).any()


def test_the_best_member_alone_when_all_the_weight_goes():
    probs, targets = pool([0.01, 5, 5], n=200)
    evaluation = evaluate(plan(3, "convex"), split(probs, targets), [ACCURACY])
    known = evaluation.folds.known()
    reduced = WithoutMembers((0, 1, 2), evaluation, Pool(probs, targets), known, refit_temperature=False)
    rest = reduced((0,))
    assert ACCURACY(rest, targets[known]) < ACCURACY(evaluation.crossfitted[known], targets[known]) - 0.1


@pytest.mark.parametrize("name", rules.names())
def test_rules_say_the_same_of_permuted_rows(name):
    """Rows are decided on in the order of their ids, so not even the last bit of a sum depends on a file's."""
    probs, targets = pool([0.4, 1, 2], n=60)
    order = np.random.default_rng(1).permutation(60)
    rows = split(probs, targets)
    moved = Split(rows.ids[order], rows.classes, probs[:, order], targets[order], None)
    one, other = (evaluate(plan(3, name), given, [ACCURACY]) for given in (rows, moved))
    assert one.fitted.params.keys() == other.fitted.params.keys()
    assert all(one.fitted.params[key].tobytes() == other.fitted.params[key].tobytes() for key in one.fitted.params)
    assert one.fitted.temperature == other.fitted.temperature
    assert one.crossfitted[order].tobytes() == other.crossfitted.tobytes()


def test_the_mean_of_logits_by_hand():
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


def test_ranks_do_not_care_for_a_members_scale():
    probs, targets = pool([0.5, 1], n=400, k=2)
    squashed = probs.copy()
    logits = np.log(probs[1, :, 1] / probs[1, :, 0]) * 0.1 - 3
    squashed[1, :, 1] = 1 / (1 + np.exp(-logits))
    squashed[1, :, 0] = 1 - squashed[1, :, 1]
    rule, auc = rules.get("rank"), metrics.get("roc_auc")
    ours, theirs = (
        auc(rule.apply(rule.fit(one, targets), one).astype(np.float32), targets) for one in (probs, squashed)
    )
    assert ours == pytest.approx(theirs, abs=2e-3)


def test_each_class_listens_to_the_member_that_knows_it():
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


def test_few_rows_leave_the_stack_near_the_mean_of_logits_and_many_let_it_learn():
    probs, targets = pool([0.3, 0.6, 4], n=4_000, sharpness=2)
    mean, stack = rules.get("logit-mean"), rules.get("stack")
    few = stack.apply(stack.fit(probs[:, :6], targets[:6]), probs)
    start = mean.apply(mean.fit(probs, targets), probs)
    assert np.abs(few - start).mean() < 0.15
    learnt = stack.apply(stack.fit(probs[:, :2_000], targets[:2_000]), probs[:, 2_000:])
    assert LOG_LOSS(learnt, targets[2_000:]) < LOG_LOSS(start[2_000:], targets[2_000:]) - 0.05


def test_convex_is_no_less_likely_than_any_calibrated_member():
    probs, targets = pool([0.5, 1, 1.5], n=300, sharpness=3)
    rule = rules.get("convex")
    together = LOG_LOSS(rule.apply(rule.fit(probs, targets), probs), targets)
    for j in range(3):
        alone = probs[j : j + 1]
        assert together <= LOG_LOSS(rule.apply(rule.fit(alone, targets), alone), targets) + 1e-5


def test_what_is_decided_does_not_keep_the_rows():
    probs, targets = pool([0.5, 1], n=50)
    (fitted,) = decide(plan(2, "stack"), [rules.get("stack")], Pool(probs, targets), np.arange(50))
    assert sum(array.size for array in fitted.params.values()) < 50


@pytest.mark.parametrize("name", ["uniform", "logit-mean"])
def test_a_member_that_says_nothing_brings_nothing_to_a_calibrated_ensemble(name):
    """The temperature is that of the rest, not the one that made up for the useless member."""
    probs, targets = pool([0.3, 0.6], n=300, sharpness=2)
    with_nobody = np.concatenate([probs, np.full((1, 300, 3), 1 / 3, np.float32)])
    chosen = replace(plan(3, name, LOG_LOSS), calibrate=True)
    evaluation = evaluate(chosen, split(with_nobody, targets), [LOG_LOSS])
    alone = evaluate(replace(plan(2, name, LOG_LOSS), calibrate=True), split(probs, targets), [LOG_LOSS])
    known = evaluation.folds.known()
    rest = WithoutMembers((0, 1, 2), evaluation, Pool(with_nobody, targets), known, refit_temperature=True)((2,))
    assert rest == pytest.approx(alone.crossfitted[known], abs=1e-4)


def test_what_leaving_out_a_class_expert_leaves_of_the_others():
    probs, targets = pool([0.4, 1, 2], n=120)
    evaluation = evaluate(plan(3, "per-class"), split(probs, targets), [ACCURACY])
    known = evaluation.folds.known()
    reduced = WithoutMembers((0, 1, 2), evaluation, Pool(probs, targets), known, refit_temperature=True)
    assert all(np.abs(reduced(gone).sum(axis=1) - 1).max() < 1e-5 for gone in ((0,), (1,), (2,), (0, 1)))


def test_the_nested_choice_is_as_bold_as_the_one_on_all_rows():
    table = entries((0.80, 0.011), (0.81, 0.0))
    assert simplest(table, ACCURACY) == 0
    assert simplest(table, ACCURACY, 0.8) == 1
