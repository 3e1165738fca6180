"""An ensemble of ensembles is the ensemble of its members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.combined import Decided, M, N, combined_run, decided, written
from helpers.fake_runs import CLASSES, predictions, run

from ensemble.combine.rules import rules
from ensemble.runs.run import Run


def nested(folder: Path, runs: Sequence[Run]) -> list[Run]:
    """An ensemble of ensembles and another one that shares a member with it."""
    first = combined_run(folder, runs[:2], "accuracy", name="one").run
    second = combined_run(folder, runs[1:], "convex", name="two").run
    return [combined_run(folder, [first, second], "accuracy", name="whole").run, second]


@pytest.mark.parametrize("rule", rules.names())
def test_ensemble_of_ensembles_is_one_of_its_members(tmp_path: Path, decided_by_rule: Decided, rule: str) -> None:
    combined = combined_run(tmp_path, nested(tmp_path, written(tmp_path)), rule)
    assert decided(combined) == decided_by_rule[rule]
    assert any("net1-0 was reached twice and counts once" in note for note in combined.notes)


@pytest.mark.parametrize("rule", rules.names())
def test_no_row_of_a_nested_ensemble_uses_its_own_target(tmp_path: Path, rule: str) -> None:
    folds = np.random.default_rng(3).permutation(N) % 5
    first, second = (honest(tmp_path / name, rule, folds, flip) for name, flip in (("a", -1), ("b", 2)))
    assert first[folds == 2].tobytes() == second[folds == 2].tobytes()
    if rule not in ("uniform", "auto"):  # which may say the same whatever the targets are
        assert first[folds != 2].tobytes() != second[folds != 2].tobytes()


def honest(folder: Path, rule: str, folds: np.ndarray, flip: int) -> np.ndarray:
    """valid.npz of an ensemble of ensembles, with other targets in the fold `flip`."""
    runs = []
    for i in range(M):
        item = predictions(N, i, skill=0.4 + 0.1 * i)
        targets = np.where(folds == flip, (item.targets + 1) % len(CLASSES), item.targets)
        runs.append(run(folder, f"net{i}-0", {"valid": replace(item, targets=targets)}))
    with pytest.MonkeyPatch.context() as patch:  # the real folds are stratified by the targets
        patch.setattr("ensemble.combine.crossfit.folds_of", lambda *rows: folds)
        return combined_run(folder, nested(folder, runs), rule, threshold=0.5).run.predictions("valid").probs
