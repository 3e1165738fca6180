"""Cross-fitting: no row takes part in the decisions behind its own prediction."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.pools import ACCURACY, split
from helpers.synthetic import stack
from hypothesis import given, reject
from hypothesis import strategies as st

from ensemble.combine.crossfit import folds_of
from ensemble.combine.evaluate import evaluate
from ensemble.combine.fit import Plan, Pool, best_alone, decide_in_fold
from ensemble.combine.rules import accuracies, rules
from ensemble.core.errors import DataError, NothingPassed
from ensemble.metrics import metrics


def plan(m, **options):
    ids = tuple(f"run{i}" for i in range(m))
    return Plan(ids, options.pop("archs", ids), rules.get(options.pop("rule", "accuracy")), **options)


@given(seed=st.integers(0, 100), fold=st.integers(0, 4), per_arch=st.integers(0, 1))
def test_targets_of_a_fold_do_not_change_its_predictions(seed, fold, per_arch):
    probs, targets = stack(3, 40, 3, seed)
    folds = np.random.default_rng(seed + 1).integers(0, 5, 40)
    chosen = plan(3, threshold=0.3, per_arch=per_arch, calibrate=True)

    def predicted(targets):
        with pytest.MonkeyPatch.context() as patch:  # the real folds are stratified by the targets
            patch.setattr("ensemble.combine.crossfit.folds_of", lambda *rows, **options: folds)
            try:
                return evaluate(chosen, split(probs, targets), [ACCURACY]).crossfitted
            except NothingPassed:
                return reject()

    here = folds == fold
    other = np.where(here, (targets + 1) % 3, targets)
    assert predicted(targets)[here].tobytes() == predicted(other)[here].tobytes()


def by_hand(probs, targets, folds, bar, per_arch):
    """The seed rule fold by fold, one architecture a member; and who was kept in each fold."""
    out, chosen = np.empty(probs.shape[1:]), []
    for fold in range(folds.max() + 1):
        here, rest = folds == fold, folds != fold
        scores = accuracies(probs[:, rest], targets[rest])
        above = [i for i in range(len(probs)) if scores[i] > bar or per_arch]
        kept = above or [int(scores.argmax())]
        out[here] = sum(scores[i] * probs[i][here].astype(float) for i in kept) / sum(scores[i] for i in kept)
        chosen.append(tuple(kept))
    return out, chosen


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("per_arch", [0, 1])
def test_crossfit_by_hand(per_arch, grouped):
    probs, targets = stack(4, 60, 3, 5)
    groups = np.array([f"g{i // 4}" for i in range(60)]) if grouped else None
    rows = split(probs, targets, groups)
    bar = float(np.sort(accuracies(probs, targets))[-2]) - 0.01
    evaluation = evaluate(plan(4, threshold=bar, per_arch=per_arch), rows, [ACCURACY])
    expected, chosen = by_hand(probs, targets, folds_of(rows.ids, targets, groups), bar, per_arch)
    assert evaluation.crossfitted == pytest.approx(expected, abs=1e-6)
    # the bar is one that not every fold gives the same answer to
    assert len(set(chosen)) == 1 if per_arch else len(set(chosen)) > 1


def test_groups_divide_crossfit_folds_and_widen_the_interval():
    probs, targets = stack(3, 40, 3, 1)
    many, answers = np.tile(probs, (1, 5, 1)), np.tile(targets, 5)
    groups = np.array([f"g{i % 40}" for i in range(200)])
    whole, alone = (evaluate(plan(3), split(many, answers, given), [ACCURACY]) for given in (groups, None))
    assert whole.crossfitted.tobytes() != alone.crossfitted.tobytes()
    wide, narrow = (item.scores["accuracy"][1] for item in (whole, alone))  # the plain mean, the same in both
    assert wide.honest.high - wide.honest.low > 1.5 * (narrow.honest.high - narrow.honest.low)


def test_crossfit_predicts_unlabelled_rows_by_the_full_fit():
    probs, targets = stack(3, 40, 3, 7)
    targets[::7] = -1
    evaluation = evaluate(plan(3), split(probs, targets), [ACCURACY])
    unknown = targets == -1
    assert evaluation.crossfitted[unknown].tobytes() == evaluation.apparent[unknown].tobytes()
    assert evaluation.crossfitted[~unknown].tobytes() != evaluation.apparent[~unknown].tobytes()


def test_selection_among_noise_has_an_honest_score():
    """Of fifty coins the best looks like more than a coin; honestly it is one."""
    gaps, honest = [], []
    for seed in range(20):
        probs, targets = stack(50, 60, 2, seed)
        best = evaluate(plan(50), split(probs, targets), [ACCURACY]).scores["accuracy"][2]
        gaps.append(best.apparent - best.honest.value)
        honest.append(best.honest.value)
    assert np.mean(gaps) > 0.08
    assert abs(np.mean(honest) - 0.5) < 0.05


@pytest.mark.parametrize("name", ["accuracy", "roc_auc", "log_loss"])
def test_best_member_is_chosen_by_the_metric(name):
    """One member ranks well but says the wrong class, one is right more often, one is never too sure."""
    targets = np.array([0, 1] * 20)
    ranks = np.where(targets == 1, 0.45, 0.4)
    right = np.where(np.arange(40) < 34, targets, 1 - targets) * 0.9999 + 0.00005
    unsure = np.where(np.arange(40) < 24, targets, 1 - targets) * 0.1 + 0.45
    ones = [ranks, right, unsure]
    probs = np.stack([np.stack([1 - item, item], 1) for item in ones]).astype(np.float32)
    metric = metrics.get(name)
    pool, rows = Pool(probs, targets), np.arange(40)
    result = [metric(member, targets) for member in probs]
    expected = int(np.argmax(result) if metric.higher else np.argmin(result))
    assert expected == {"accuracy": 1, "roc_auc": 0, "log_loss": 0}[name]
    assert best_alone(plan(3, metric=metric), pool, rows).selection.kept == (expected,)


def test_fold_with_nothing_above_the_threshold_takes_its_best():
    probs, targets = stack(3, 20, 2, 3)
    chosen = plan(3, threshold=1.0, per_arch=0)
    pool, rows = Pool(probs, targets), np.arange(20)
    (fitted,) = decide_in_fold(chosen, [chosen.rule], pool, rows)
    assert fitted.selection.kept == best_alone(chosen, pool, rows).selection.kept
    assert fitted.predict(probs) == pytest.approx(probs[fitted.selection.kept[0]], abs=1e-7)


@given(n=st.integers(2, 40), seed=st.integers(0, 50), order=st.randoms(use_true_random=False))
def test_folds_do_not_depend_on_the_order_of_rows(n, seed, order):
    random = np.random.default_rng(seed)
    ids, targets = np.array([f"i{i}" for i in range(n)]), random.integers(-1, 3, n)
    if (targets >= 0).sum() < 2:
        targets[:2] = 0
    rows = list(range(n))
    order.shuffle(rows)
    folds = folds_of(ids, targets, None)
    assert (folds[rows] == folds_of(ids[rows], targets[rows], None)).all()
    assert ((folds == -1) == (targets == -1)).all()
    assert folds.max() == min(5, (targets >= 0).sum()) - 1


def test_crossfit_groups_stay_whole():
    ids, groups = np.array([f"i{i}" for i in range(60)]), np.array([f"g{i % 9}" for i in range(60)])
    folds = folds_of(ids, np.arange(60) % 4, groups)
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))


@pytest.mark.parametrize(("targets", "groups"), [([0, -1, -1], None), ([0, 1, 1], ["g", "g", "g"])])
def test_one_unit_cannot_be_cross_fitted(targets, groups):
    with pytest.raises(DataError, match="at least 2 expected"):
        folds_of(np.array(["a", "b", "c"]), np.array(targets), None if groups is None else np.array(groups))
