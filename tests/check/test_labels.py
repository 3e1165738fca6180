"""Labels that good members contradict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.fake_runs import member

from ensemble.check.labels import best_run_for_labels, label_issues, why_unusable
from ensemble.core.predictions import Predictions


def with_wrong_labels(n: int, wrong: int, seed: int) -> tuple[Predictions, set[str]]:
    random = np.random.default_rng(seed)
    true = np.arange(n) % 3
    output = np.eye(3)[true] * 4 + random.random((n, 3))
    given = true.copy()
    rows = random.choice(n, wrong, replace=False)
    given[rows] = (given[rows] + 1) % 3
    ids = np.array([f"i{row}" for row in range(n)])
    probs = (output / output.sum(1, keepdims=True)).astype(np.float32)
    return Predictions(ids, probs, np.array(["ant", "bee", "cat"]), given), set(ids[rows].tolist())


def test_wrong_labels_are_named_with_a_likelier_one() -> None:
    predictions, wrong = with_wrong_labels(300, 12, 3)
    result = label_issues(predictions)
    named = {issue.id for issue in result}
    assert named <= wrong and len(named) >= 0.9 * len(wrong)
    assert all(issue.given != issue.likely and issue.likely_confidence > issue.confidence for issue in result)
    assert [issue.confidence for issue in result] == sorted(issue.confidence for issue in result)
    bare = Predictions(predictions.ids, predictions.probs, predictions.classes, None)
    assert label_issues(bare) == []


@pytest.mark.parametrize(
    ("right", "largest", "n", "judges"),
    [
        (34, 32, 64, False),
        (40, 32, 64, True),  # 0.625; its lower bound 0.52
        (38, 32, 64, False),  # 0.59; its lower bound 0.49
        (190, 180, 200, True),
        (185, 180, 200, False),
        (1, 1, 1, False),
    ],
)
def test_labels_are_judged_only_by_members_better_than_the_largest_class(
    right: int, largest: int, n: int, judges: bool
) -> None:
    targets = (np.arange(n) >= largest).astype(np.int64)
    output = np.where(np.arange(n) < right, targets, 1 - targets)
    ids = np.array([f"i{row}" for row in range(n)])
    probs = np.eye(2, dtype=np.float32)[output] * 0.98 + np.float32(0.01)
    why = why_unusable(Predictions(ids, probs, np.array(["ant", "bee"]), targets))
    assert (why == "") == judges
    assert judges or (f"{right} of {n}" in why and f"({largest} of {n})" in why)


def test_labels_are_judged_by_folds_before_a_better_member(tmp_path: Path) -> None:
    assert best_run_for_labels(tmp_path, "a" * 64) is None
    member(tmp_path, "good-00000001", 1, skill=0.95)
    member(tmp_path, "other-00000002", 1, skill=0.99, data={"form": "folders", "fingerprint": "b" * 64})
    folds = member(tmp_path, "folds-00000003", 2, skill=0.6, kind="folds")
    assert best_run_for_labels(tmp_path, "a" * 64) == folds
