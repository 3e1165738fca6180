"""Rows sampled for fitting: any period of the classes, and what is fitted on them holds on new rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import fake_runs
from hypothesis import given
from hypothesis import strategies as st

from ensemble.combine.arrays import enough_rows, sampled
from ensemble.combine.ensembler import combine
from ensemble.combine.fit import Plan, Pool, decide
from ensemble.combine.rule_selection import MOST_COEFFICIENTS, candidate_rules, too_large
from ensemble.combine.rules import Rule, rules
from ensemble.core.registry import Registry
from ensemble.metrics import metrics

N = 150_000
"""Rows of which four classes make more cells than are looked at."""


def periodic(n: int, k: int, seed: int, m: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """probs (m, n, k) that are too sure, more so of the first class; targets that follow a period."""
    random = np.random.default_rng(seed)
    targets = np.arange(n) % k
    scale = np.where(targets == 0, 6.0, 1.5)[:, None]
    logits = random.normal(size=(m, n, k)) + np.eye(k)[targets]
    probs = np.exp(scale * logits)
    return (probs / probs.sum(axis=2, keepdims=True)).astype(np.float32), targets


@given(st.integers(1, 5_000), st.integers(1, 500))
def test_sample_is_distinct_and_ordered(n: int, most: int) -> None:
    places = sampled(n, most)
    assert len(places) == min(n, most)
    assert (np.diff(places) > 0).all() and places[0] >= 0 and places[-1] < n
    assert (places == sampled(n, most)).all()


@pytest.mark.parametrize("period", [2, 3, 4, 5, 8, 10])
def test_sample_meets_every_class_of_a_period(period: int) -> None:
    shares = np.bincount(sampled(40_000, 10_000) % period, minlength=period) / 10_000
    assert np.abs(shares - 1 / period).max() < 0.02


def test_many_classes_need_fewer_rows() -> None:
    assert len(enough_rows(100_000, 2)) == 100_000
    assert len(enough_rows(100_000, 100)) == 5_000
    assert len(enough_rows(100_000, 1_000)) == 1_000


@pytest.mark.parametrize("name", ["log-odds", "convex", "rank"])
def test_sample_of_periodic_classes_keeps_the_log_loss(name: str) -> None:
    probs, targets = periodic(N, 4, 0)
    new, new_targets = periodic(20_000, 4, 1)
    plan = Plan(("a", "b", "c"), ("a", "b", "c"), rules.get(name), calibrate=True)
    (fitted,) = decide(plan, [plan.rule], Pool(probs, targets), np.arange(len(targets)))
    loss = metrics.get("log_loss")
    assert loss(fitted.predict(new), new_targets) == pytest.approx(loss(fitted.predict(probs), targets), abs=0.02)
    every_row, _ = periodic(N, 4, 0)
    shuffled = np.random.default_rng(5).permutation(len(targets))
    (other,) = decide(plan, [plan.rule], Pool(every_row[:, shuffled], targets[shuffled]), np.arange(len(targets)))
    assert fitted.temperature == pytest.approx(other.temperature, rel=0.03)


def test_auto_leaves_out_rules_with_too_many_coefficients(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert too_large(30, 1_000) == ("stack",)
    assert too_large(9, 100) == ()
    monkeypatch.setattr("ensemble.combine.rule_selection.MOST_COEFFICIENTS", 10)
    runs = [fake_runs.member(tmp_path, f"net{seed}-0000000{seed}", seed) for seed in range(3)]
    combined = combine(runs, folder=tmp_path, rule="auto")
    assert "stack" not in [entry.rule for entry in combined.report.tournament]
    assert len(combined.report.tournament) == len(candidate_rules()) - 1
    assert any("auto left out stack: too large for 3 members and 3 classes" in note for note in combined.notes)


def test_apparent_score_below_the_honest_interval_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(probs: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
        right = (probs.argmax(axis=2) == targets).mean(axis=1)
        # on all rows it takes the worst member, on a part of them the best
        pick = right.argmin() if len(targets) >= 300 else right.argmax()
        return {"weights": np.eye(len(probs))[pick]}

    own: Registry[Rule] = Registry("combining rule")
    own.register("test-broken")(Rule("test-broken", broken, 99))
    own.register("accuracy")(rules.get("accuracy"))
    runs = [
        fake_runs.member(tmp_path, "good-00000001", 1, n=300, skill=0.95),
        fake_runs.member(tmp_path, "poor-00000002", 2, n=300, skill=0.2),
    ]
    monkeypatch.setattr("ensemble.combine.ensembler.rules", own)
    notes = combine(runs, folder=tmp_path, rule="test-broken").notes
    assert any(note.startswith("something is wrong: the apparent accuracy") for note in notes)
    assert not any(note.startswith("something") for note in combine(runs, folder=tmp_path).notes)


def test_coefficient_limit_allows_ordinary_stacks() -> None:
    assert MOST_COEFFICIENTS >= 20 * 100 * 100


def test_sampled_fit_has_another_run_id(tmp_path: Path) -> None:
    """Ensembles of few rows, and of rules that sample nothing, keep the ids that people have on disk."""
    few = [fake_runs.member(tmp_path, f"few-0000000{seed}", seed) for seed in range(2)]
    many = [fake_runs.member(tmp_path / "many", f"net-0000000{seed}", seed, n=5_001) for seed in range(2)]
    ids = [
        combine(runs, folder=folder, rule=rule).run.id.rpartition("-")[2]
        for runs, folder in ((few, tmp_path), (many, tmp_path / "many"))
        for rule in ("accuracy", "logit-mean")
    ]
    assert ids[:3] == ["3deb2e63", "a0a91e51", "88b6dec6"] and ids[3] != "b0bcb3d3"
