"""Odd validation rows are combined by every rule without a warning, and the result is plausible."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fake_runs import run

from ensemble.combine.ensembler import Combined, combine
from ensemble.combine.rules import rules
from ensemble.core.errors import DataError
from ensemble.core.predictions import Predictions
from ensemble.runs.run import Run

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.slow]


N, K = 20, 3


TARGETS = np.arange(N) % K


EYE = np.eye(K)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ensemble.combine.crossfit.MOST_REPEATS", 1)


def soft(m: int, n: int, k: int, seed: int) -> np.ndarray:
    """Members (m, n, k) that are right on most rows."""
    random = np.random.default_rng(seed)
    output = np.where(random.random((m, n)) < 0.6, np.arange(n) % k, random.integers(0, k, (m, n)))
    probs = random.random((m, n, k)) + 2 * np.eye(k)[output]
    return probs / probs.sum(axis=2, keepdims=True)


USUAL = soft(3, N, K, 0)


def second(member: Any) -> np.ndarray:
    """The usual members with another one in the middle."""
    return np.stack([USUAL[0], np.broadcast_to(member, (N, K)), USUAL[2]])


def where(places: Any, value: int) -> np.ndarray:
    targets = TARGETS.copy()
    targets[places] = value
    return targets


WRONG = EYE[(TARGETS + 1) % K]


ODD: dict[str, tuple[Any, ...]] = {
    "constant rows": (np.full((3, N, K), 1 / K), TARGETS),
    "a constant member": (second(1 / K), TARGETS),
    "a member that is always sure of one class": (second(EYE[0]), TARGETS),
    "all are always sure of one class": (np.broadcast_to(EYE[0], (3, N, K)), TARGETS),
    "one-hot rows": (EYE[USUAL.argmax(axis=2)], TARGETS),
    "all are perfect": (np.stack([EYE[TARGETS]] * 3), TARGETS),
    "all are sure and wrong": (np.stack([WRONG] * 3), TARGETS),
    "each is sure, and wrong in its own way": (np.stack([WRONG, EYE[(TARGETS + 2) % K], WRONG]), TARGETS),
    "one is sure and wrong": (second(WRONG), TARGETS),
    "one is perfect": (second(EYE[TARGETS]), TARGETS),
    "clones": (np.stack([USUAL[0]] * 3), TARGETS),
    "twins": (second(USUAL[0]), TARGETS),
    "one member": (USUAL[:1], TARGETS),
    "a class without rows": (USUAL, TARGETS % 2),
    "a class of one row": (USUAL, np.where(np.arange(N) == 5, 2, TARGETS % 2)),
    "one class alone": (USUAL, np.zeros(N, int)),
    "some targets are unknown": (USUAL, where(slice(0, None, 3), -1)),
    "two targets are known": (USUAL, where(slice(2, None), -1)),
    "groups": (USUAL, TARGETS, np.arange(N) // 4),
    "two groups": (USUAL, TARGETS, np.arange(N) // 10),
    "a group is a class": (USUAL, TARGETS, TARGETS),
    "tiny probabilities": (np.maximum(EYE[USUAL.argmax(axis=2)], 1e-40), TARGETS),
    "two classes": (soft(3, N, 2, 1), np.arange(N) % 2),
    **{f"{n} rows": (soft(3, n, K, n), np.arange(n) % K) for n in range(2, 11)},
    "two one-hot rows": (np.eye(2)[soft(3, 2, 2, 3).argmax(axis=2)], np.arange(2)),
}


def members(folder: Path, probs: np.ndarray, targets: np.ndarray, groups: np.ndarray | None = None) -> list[Run]:
    """Runs whose test has a sure row for each class."""
    n, k = probs.shape[1:]
    ids, classes = np.array([f"v{i:02d}" for i in range(n)]), np.array(list("abc")[:k])
    named = None if groups is None else np.array([f"g{first}" for first in groups])
    test = Predictions(np.array([f"t{i}" for i in range(k)]), np.eye(k, dtype=np.float32), classes)
    return [
        run(
            folder,
            f"net{i}-0",
            {
                "valid": Predictions(ids, first.astype(np.float32), classes, targets.astype(np.int64), named),
                "test": test,
            },
        )
        for i, first in enumerate(probs)
    ]


def sensible(created: Combined, probs: np.ndarray) -> None:
    """Rows are probabilities, weights are shares, scores lie in their intervals."""
    for split in ("valid", "test"):
        output = created.run.predictions(split).probs
        assert np.isfinite(output).all() and (output >= 0).all()
        assert np.abs(output.sum(axis=1, dtype=np.float64) - 1).max() < 1e-6
    # a test row that all are sure of
    assert (
        created.run.predictions("test").probs.argmax(axis=1) == np.arange(probs.shape[2])
    ).all() or created.rule in LEARNT
    weights = [row.weight for row in created.members if row.kept]
    assert None in weights or (min(weights) >= 0 and abs(sum(weights) - 1) < 1e-12)
    for score in created.scores:
        assert score.honest.low - 1e-12 <= score.honest.value <= score.honest.high + 1e-12
        assert 0 <= score.apparent <= 1


LEARNT = ("stack", "rank")


@pytest.mark.parametrize("name", ODD)
def test_odd_rows_by_every_rule(tmp_path: Path, name: str) -> None:
    probs, targets, *groups = ODD[name]
    runs = members(tmp_path, probs, targets, *groups)
    for rule in rules.names():
        sensible(combine(runs, folder=tmp_path, rule=rule), probs)


@pytest.mark.parametrize(
    "name", ["all are sure and wrong", "one is sure and wrong", "a class without rows", "3 rows"]
)
@pytest.mark.parametrize("rule", ["accuracy", "convex", "stack", "auto"])
def test_log_loss_of_odd_rows_is_finite(tmp_path: Path, name: str, rule: str) -> None:
    probs, targets, *_ = ODD[name]
    created = combine(members(tmp_path, probs, targets), folder=tmp_path, rule=rule, metric="log_loss")
    for score in created.scores:
        assert np.isfinite([score.apparent, score.honest.value]).all()
        # rows that all lose the same say nothing of how far other rows may lie from it: no interval
        honest = score.honest
        assert honest.low <= honest.value <= honest.high or np.isnan([honest.low, honest.high]).all()


@pytest.mark.parametrize("rule", rules.names())
def test_perfect_members_stay_perfect(tmp_path: Path, rule: str) -> None:
    created = combine(members(tmp_path, *ODD["all are perfect"]), folder=tmp_path, rule=rule)
    assert [(score.apparent, score.honest.value, score.honest.high) for score in created.scores] == [(1, 1, 1)] * 3
    assert (created.run.predictions("valid").probs.argmax(axis=1) == TARGETS).all()


@pytest.mark.parametrize("rule", ["accuracy", "log-odds", "convex", "greedy"])
def test_perfect_member_has_the_largest_weight(tmp_path: Path, rule: str) -> None:
    created = combine(members(tmp_path, *ODD["one is perfect"]), folder=tmp_path, rule=rule)
    assert max(created.members, key=lambda row: row.weight or 0).id == "net1-0"


@pytest.mark.parametrize("rule", ["log-odds", "convex", "greedy"])
def test_confident_wrong_member_has_no_weight(tmp_path: Path, rule: str) -> None:
    created = combine(members(tmp_path, *ODD["one is sure and wrong"]), folder=tmp_path, rule=rule)
    assert {row.id: row.weight for row in created.members}["net1-0"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rule", ["uniform", "accuracy", "log-odds", "logit-mean", "greedy", "per-class"])
def test_single_member_is_unchanged(tmp_path: Path, rule: str) -> None:
    alone = members(tmp_path, *ODD["one member"])
    created = combine(alone, folder=tmp_path, rule=rule, calibrate=False)
    assert created.run.predictions("valid").probs == pytest.approx(alone[0].predictions("valid").probs, abs=1e-6)


@pytest.mark.parametrize("rule", [name for name in rules.names() if name not in ("stack", "auto")])
def test_clones_are_one_of_them(tmp_path: Path, rule: str) -> None:
    """The prior of `stack` is in shares of a member, and so knows how many there are."""
    first, three = (members(tmp_path / name, *ODD[name]) for name in ("one member", "clones"))
    output = [
        combine(runs, folder=runs[0].path.parent, rule=rule).run.predictions("valid").probs
        for runs in (first, three)
    ]
    assert output[0] == pytest.approx(output[1], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("a class without rows", "no validation row is 'c'"),
        ("some targets are unknown", "7 of 20 validation rows have no target"),
        ("all are sure and wrong", "no member passed 0"),
    ],
)
def test_odd_rows_are_noted(tmp_path: Path, name: str, note: str) -> None:
    created = combine(members(tmp_path, *ODD[name]), folder=tmp_path)
    assert any(note in line for line in created.notes)


@pytest.mark.parametrize("rule", rules.names())
@pytest.mark.parametrize(
    "rows",
    [
        (soft(3, 1, K, 0), np.zeros(1, int)),
        (USUAL, where(slice(1, None), -1)),
        (USUAL, TARGETS, np.zeros(N, int)),
    ],
    ids=["one row", "one target", "one group"],
)
def test_one_row_is_too_few(tmp_path: Path, rule: str, rows: Sequence[Any]) -> None:
    with pytest.raises(DataError, match="at least 2 expected to combine and score"):
        combine(members(tmp_path, *rows), folder=tmp_path, rule=rule)
    assert len(list(tmp_path.iterdir())) == 3
