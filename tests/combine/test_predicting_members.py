"""The members that predict new images, their calibration and coverage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.fake_runs import member, predictions
from helpers.fake_runs import run as write
from helpers.rules import QUICK_RULES

from ensemble.combine.calibration import calibrated
from ensemble.combine.ensembler import combine
from ensemble.combine.predicting_members import (
    Calibration,
    LeastCovered,
    honest_rows,
    least_covered,
    predicting_members,
)
from ensemble.core.errors import DataError


def test_class_with_low_coverage_is_named() -> None:
    random = np.random.default_rng(0)
    targets = np.repeat([0, 1], [900, 100])
    sure = np.where(targets == 0, 0.95, random.uniform(0.2, 0.6, 1000))  # of the true class
    probs = np.stack([np.where(targets == 0, sure, 1 - sure), np.where(targets == 0, 1 - sure, sure)], 1)
    sets = calibrated(probs, targets, 0.95)
    least = least_covered(sets, probs, targets, ("many", "few"))
    assert least == LeastCovered("few", pytest.approx(0.5, abs=0.02), 100)
    assert "of few, the least, sets hold 5" in Calibration(sets, 0.95, least=least).warning
    even = np.full((1000, 2), 0.5)
    assert least_covered(calibrated(even, targets, 0.95), even, targets, ("many", "few")) is None


def test_no_class_has_low_coverage_by_chance() -> None:
    random = np.random.default_rng(1)
    named = 0
    for _ in range(100):
        targets = random.integers(0, 10, 400)
        logits = random.normal(size=(400, 10)) + 2 * np.eye(10)[targets]
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        sets = calibrated(probs, targets, 0.9)
        named += least_covered(sets, probs, targets, tuple("abcdefghij")) is not None
    assert named <= 10


def test_refit_is_calibrated_on_the_member_before_it(here: Path) -> None:
    before = member(here / "runs", "net-00000001", 1)
    after = write(here / "runs", "net-full-00000002", {"test": predictions(5, 3)}, kind="refit", parents=[before])
    result, why = honest_rows(predicting_members(after))
    assert len(result) == 60 and why == "of net-00000001, before the refit"
    alone = write(here / "runs", "net-00000003", {"valid": predictions(5, 3, labelled=False)})
    with pytest.raises(DataError, match="no labelled validation rows"):
        honest_rows(predicting_members(alone))


def test_members_without_weight_do_not_predict(here: Path) -> None:
    runs = [member(here / "runs", f"net{i}-0000000{i}", i, skill=skill) for i, skill in ((1, 0.95), (2, 0.3))]
    result = predicting_members(combine(runs, folder=here / "runs", rule="greedy").run)
    assert [run.id for run in result.networks] == ["net1-00000001"] and result.used == (0,)
    probs = np.stack([run.predictions("test").probs for run in runs])
    scrambled = np.stack([probs[0], np.full_like(probs[1], 1 / 3)])
    assert np.array_equal(result.combined(probs), result.combined(scrambled))


@pytest.mark.parametrize("rule", QUICK_RULES)
def test_predicting_members_repeat_what_combine_wrote(here: Path, rule: str) -> None:
    runs = [member(here / "runs", f"net{i}-0000000{i}", i) for i in (1, 2, 3)]
    created = combine(runs, folder=here / "runs", rule=rule)
    result = predicting_members(created.run)
    probs = np.stack([item.run.predictions("test").probs for item in result.members])
    assert np.array_equal(result.combined(probs), created.run.predictions("test").probs)
    assert result.weights.sum() == pytest.approx(1)
