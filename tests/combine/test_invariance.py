"""The same predictions in another order, layout or process are one ensemble, to the last bit, by every rule."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.combined import Decided, combined_run, decided, digests_by_rule, taken, written
from helpers.fake_runs import CLASSES, rewritten, run
from helpers.repository import ROOT
from helpers.rules import QUICK_RULES

from ensemble.combine.record import read_ensemble
from ensemble.combine.rules import rules
from ensemble.metrics import find
from ensemble.runs.run import Run

AUTO = pytest.param("auto", marks=pytest.mark.slow)


def permute(item: Run, seed: int, *, rows: bool = True, columns: bool = True) -> None:
    """Permute both files of a run, each in its own way."""
    random = np.random.default_rng(seed)
    for split in ("valid", "test"):
        old = item.predictions(split)
        n, k = old.probs.shape
        orders = (
            (random.permutation(n) if rows else np.arange(n)),
            (random.permutation(k) if columns else np.arange(k)),
        )
        rewritten(item, split, taken(old, *orders))


def rewrite(item: Run, change: Any, save: Any = np.savez) -> None:
    """Write both files of a run again with their probabilities changed."""
    for split in ("valid", "test"):
        path = item.path / f"{split}.npz"
        with np.load(path) as npz:
            arrays = dict(npz)
        save(path, **{**arrays, "probs": change(arrays["probs"])})


def one_permuted(runs: list[Run]) -> list[Run]:
    permute(runs[1], 5)
    return runs


def all_permuted(runs: list[Run]) -> list[Run]:
    for seed, item in enumerate(runs):
        permute(item, seed)
    return runs


def all_rows_permuted_alike(runs: list[Run]) -> list[Run]:
    for item in runs:
        permute(item, 7, columns=False)
    return runs


def another_order_of_members(runs: list[Run]) -> list[Run]:
    return [runs[2], runs[0], runs[1]]


def another_layout(runs: list[Run]) -> list[Run]:
    rewrite(runs[0], np.asfortranarray)
    rewrite(runs[1], lambda probs: probs, np.savez_compressed)
    return runs


MUTATIONS = [one_permuted, all_permuted, all_rows_permuted_alike, another_order_of_members, another_layout]


@pytest.mark.parametrize("rule", [*QUICK_RULES, AUTO])
@pytest.mark.parametrize("mutate", MUTATIONS)
def test_order_and_layout_change_no_rule(tmp_path: Path, decided_by_rule: Decided, mutate: Any, rule: str) -> None:
    runs = mutate(written(tmp_path))
    assert decided(combined_run(tmp_path, runs, rule)) == decided_by_rule[rule]


@pytest.mark.parametrize("rule", ["accuracy", "greedy", AUTO])
def test_order_changes_nothing_with_groups_and_a_bootstrapped_metric(tmp_path: Path, rule: str) -> None:
    runs = written(tmp_path / "plain", grouped=True)
    other = another_layout(another_order_of_members(all_permuted(written(tmp_path / "other", grouped=True))))
    first, second = (combined_run(runs[0].path.parent, runs, rule, metric="log_loss") for runs in (runs, other))
    assert decided(first) == decided(second)


def test_order_changes_no_score_in_metrics_json(tmp_path: Path) -> None:
    runs = written(tmp_path / "plain")
    other = all_rows_permuted_alike(written(tmp_path / "other"))
    first, second = (combined_run(runs[0].path.parent, runs, "accuracy") for runs in (runs, other))
    assert first.run.metrics == second.run.metrics


@pytest.mark.parametrize("rule", rules.names())
def test_weights_are_shares(tmp_path: Path, rule: str) -> None:
    combined = combined_run(tmp_path, written(tmp_path), rule)
    shares = rules.get(combined.rule).shares(read_ensemble(combined.run).params)
    assert (shares >= 0).all()
    assert np.abs(shares.sum(axis=0) - 1).max() <= 1e-12
    weights = [row.weight for row in combined.members]
    assert None in weights or (min(weights) >= 0 and abs(sum(weights) - 1) <= 1e-12)


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    tests, other = str(ROOT / "tests"), str(tmp_path / "other")
    script = (
        f"import sys; from pathlib import Path; sys.path.insert(0, {tests!r});"
        f" from helpers.combined import digests_by_rule; print(digests_by_rule(Path({other!r})))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    output = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True).stdout
    assert output.decode().strip() == str(digests_by_rule(tmp_path / "here"))


def test_normalised_rows_count_as_given(tmp_path: Path) -> None:
    runs = written(tmp_path / "files")
    exact = [item.predictions("valid").probs for item in runs]
    rewrite(runs[0], lambda probs: probs.astype(np.float16))
    rewrite(runs[1], lambda probs: probs.astype(np.float16))
    rewrite(runs[2], lambda probs: probs * np.float32(1.0009))
    right = [
        run(tmp_path / "right", item.id, {split: item.predictions(split) for split in item.splits()})
        for item in runs
    ]
    for item, probs in zip(right, exact, strict=True):
        read = item.predictions("valid").probs
        assert np.abs(read.sum(axis=1, dtype=np.float64) - 1).max() <= 1e-6
        assert np.abs(read - probs).max() <= 1e-3
    for rule in rules.names():
        first, second = (decided(combined_run(each[0].path.parent, each, rule)) for each in (runs, right))
        assert first == second, rule


METRICS = [
    "accuracy",
    "balanced_accuracy",
    "log_loss",
    "roc_auc",
    "roc_auc:bee",
    "accuracy+roc_auc:cat",
]


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["auto", "greedy"])
@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_can_be_optimised(tmp_path: Path, metric: str, rule: str) -> None:
    combined = combined_run(tmp_path, written(tmp_path), rule, metric=metric)
    ours = combined.scores[0]
    assert ours.metric == metric
    assert ours.honest.low <= ours.honest.value <= ours.honest.high
    assert read_ensemble(combined.run).metric == metric
    if rule == "auto":
        assert sorted(entry.rule for entry in combined.report.tournament) == sorted(QUICK_RULES)
        sign = 1 if find(metric, CLASSES).higher else -1
        best = max(combined.report.tournament, key=lambda entry: sign * entry.score).score
        near = [entry.rule for entry in combined.report.tournament if abs(entry.score - best) <= entry.error]
        assert combined.rule == min(near, key=lambda name: rules.get(name).complexity)
