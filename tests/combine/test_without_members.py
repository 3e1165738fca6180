"""An ensemble without some of its members."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.pools import ACCURACY, LOG_LOSS, plan, pool, split

from ensemble.combine.contributions import WithoutMembers
from ensemble.combine.evaluate import evaluate
from ensemble.combine.fit import Pool
from ensemble.combine.rules import rules


@pytest.mark.parametrize("name", [name for name in rules.names() if name != "auto"])
def test_ensemble_without_no_member_is_the_ensemble(name):
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


def test_without_all_weighted_members_is_the_best_member():
    probs, targets = pool([0.01, 5, 5], n=200)
    evaluation = evaluate(plan(3, "convex"), split(probs, targets), [ACCURACY])
    known = evaluation.folds.known()
    reduced = WithoutMembers((0, 1, 2), evaluation, Pool(probs, targets), known, refit_temperature=False)
    rest = reduced((0,))
    assert ACCURACY(rest, targets[known]) < ACCURACY(evaluation.crossfitted[known], targets[known]) - 0.1


@pytest.mark.parametrize("name", ["uniform", "logit-mean"])
def test_uninformative_member_brings_nothing_when_calibrated(name):
    """The temperature is that of the rest, not the one that made up for the useless member."""
    probs, targets = pool([0.3, 0.6], n=300, sharpness=2)
    with_nobody = np.concatenate([probs, np.full((1, 300, 3), 1 / 3, np.float32)])
    chosen = replace(plan(3, name, LOG_LOSS), calibrate=True)
    evaluation = evaluate(chosen, split(with_nobody, targets), [LOG_LOSS])
    alone = evaluate(replace(plan(2, name, LOG_LOSS), calibrate=True), split(probs, targets), [LOG_LOSS])
    known = evaluation.folds.known()
    rest = WithoutMembers((0, 1, 2), evaluation, Pool(with_nobody, targets), known, refit_temperature=True)((2,))
    assert rest == pytest.approx(alone.crossfitted[known], abs=1e-4)


def test_without_a_class_expert_the_others_keep_their_weights():
    probs, targets = pool([0.4, 1, 2], n=120)
    evaluation = evaluate(plan(3, "per-class"), split(probs, targets), [ACCURACY])
    known = evaluation.folds.known()
    reduced = WithoutMembers((0, 1, 2), evaluation, Pool(probs, targets), known, refit_temperature=True)
    assert all(np.abs(reduced(gone).sum(axis=1) - 1).max() < 1e-5 for gone in ((0,), (1,), (2,), (0, 1)))
