"""The same predictions in another order, layout or precision are one ensemble, to the last bit, by every rule."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_runs import CLASSES, contents, predictions, rewritten, run
from hypothesis import given
from hypothesis import strategies as st

from ensemble.combine.ensembler import Combined, combine
from ensemble.combine.record import read_ensemble
from ensemble.combine.rules import rules
from ensemble.core.errors import DataError
from ensemble.core.predictions import Predictions, checked
from ensemble.metrics import find
from ensemble.runs.run import Run

M, N = 3, 36
Decided = dict[str, dict[str, Any]]
QUICK = [name for name in rules.names() if name != "auto"]
AUTO = pytest.param("auto", marks=pytest.mark.slow)


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def written(folder: Path, *, grouped: bool = False, **facts: Any) -> list[Run]:
    """Members some of whose rows have no target; grouped: rows come in groups of two."""
    groups = np.array([f"g{i // 2}" for i in range(N)]) if grouped else None
    runs = []
    for i in range(M):
        valid = predictions(N, i, skill=0.5 + 0.1 * i, groups=groups)
        valid.targets[::11] = -1
        splits = {"valid": valid, "test": predictions(9, i + 100, prefix="t", labelled=False)}
        runs.append(run(folder, f"net{i}-0", splits, **facts))
    return runs


def made(folder: Path, runs: Sequence[Run], rule: str, **options: Any) -> Combined:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        patch.setattr("ensemble.combine.crossfit.MOST_REPEATS", 1 if rule == "auto" else 3)
        return combine(runs, folder=folder, rule=rule, **options)


def by_name(one: Predictions) -> bytes:
    """The bits of every id and class."""
    return one.probs[np.argsort(one.ids)][:, np.argsort(one.classes)].tobytes()


def decided(combined: Combined) -> dict[str, Any]:
    """All that a rule decided, and what comes of it by id and class."""
    back = read_ensemble(combined.run)
    return {
        "members": [(row.id, row.accuracy, row.weight, row.kept, row.why) for row in combined.members],
        "params": {name: (array.shape, array.tobytes()) for name, array in back.params.items()},
        "rule": combined.rule,
        "temperature": combined.temperature,
        "scores": combined.scores,
        "report": combined.report,
        "classes": combined.run.record.values["classes"],
        "valid": by_name(combined.run.predictions("valid")),
        "test": by_name(combined.run.predictions("test")),
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Decided:
    """What every rule decides on members as they are."""
    folder = tmp_path_factory.mktemp("plain")
    runs = written(folder)
    return {rule: decided(made(folder, runs, rule)) for rule in rules.names()}


def taken(one: Predictions, rows: np.ndarray, columns: np.ndarray) -> Predictions:
    """Rows and columns in another order."""
    new_index = np.append(np.argsort(columns), -1)
    return replace(
        one,
        ids=one.ids[rows],
        probs=one.probs[rows][:, columns],
        classes=one.classes[columns],
        targets=None if one.targets is None else new_index[one.targets][rows],
        groups=None if one.groups is None else one.groups[rows],
    )


def permute(one: Run, seed: int, *, rows: bool = True, columns: bool = True) -> None:
    """Permute both files of a run, each in its own way."""
    random = np.random.default_rng(seed)
    for split in ("valid", "test"):
        old = one.predictions(split)
        n, k = old.probs.shape
        orders = (
            (random.permutation(n) if rows else np.arange(n)),
            (random.permutation(k) if columns else np.arange(k)),
        )
        rewritten(one, split, taken(old, *orders))


def rewrite(one: Run, change: Any, save: Any = np.savez) -> None:
    """Write both files of a run again with their probabilities changed."""
    for split in ("valid", "test"):
        path = one.path / f"{split}.npz"
        with np.load(path) as npz:
            arrays = dict(npz)
        save(path, **{**arrays, "probs": change(arrays["probs"])})


def one_permuted(runs: list[Run]) -> list[Run]:
    permute(runs[1], 5)
    return runs


def all_permuted(runs: list[Run]) -> list[Run]:
    for seed, one in enumerate(runs):
        permute(one, seed)
    return runs


def all_rows_permuted_alike(runs: list[Run]) -> list[Run]:
    for one in runs:
        permute(one, 7, columns=False)
    return runs


def another_order_of_members(runs: list[Run]) -> list[Run]:
    return [runs[2], runs[0], runs[1]]


def another_layout(runs: list[Run]) -> list[Run]:
    rewrite(runs[0], np.asfortranarray)
    rewrite(runs[1], lambda probs: probs, np.savez_compressed)
    return runs


MUTATIONS = [one_permuted, all_permuted, all_rows_permuted_alike, another_order_of_members, another_layout]


@pytest.mark.parametrize("rule", [*QUICK, AUTO])
@pytest.mark.parametrize("mutate", MUTATIONS)
def test_order_and_layout_change_nothing(tmp_path: Path, plain: Decided, mutate: Any, rule: str) -> None:
    runs = mutate(written(tmp_path))
    assert decided(made(tmp_path, runs, rule)) == plain[rule]


@pytest.mark.parametrize("rule", ["accuracy", "greedy", AUTO])
def test_nor_do_they_with_groups_and_a_metric_that_is_drawn(tmp_path: Path, rule: str) -> None:
    runs = written(tmp_path / "plain", grouped=True)
    other = another_layout(another_order_of_members(all_permuted(written(tmp_path / "other", grouped=True))))
    one, two = (made(runs[0].path.parent, runs, rule, metric="log_loss") for runs in (runs, other))
    assert decided(one) == decided(two)


def test_nor_do_the_scores_in_metrics_json(tmp_path: Path) -> None:
    runs = written(tmp_path / "plain")
    other = all_rows_permuted_alike(written(tmp_path / "other"))
    one, two = (made(runs[0].path.parent, runs, "accuracy") for runs in (runs, other))
    assert one.run.metrics == two.run.metrics


@pytest.mark.parametrize("rule", rules.names())
def test_weights_are_shares(tmp_path: Path, rule: str) -> None:
    combined = made(tmp_path, written(tmp_path), rule)
    shares = rules.get(combined.rule).shares(read_ensemble(combined.run).params)
    assert (shares >= 0).all()
    assert np.abs(shares.sum(axis=0) - 1).max() <= 1e-12
    weights = [row.weight for row in combined.members]
    assert None in weights or (min(weights) >= 0 and abs(sum(weights) - 1) <= 1e-12)


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    tests, other = str(Path(__file__).parent), str(tmp_path / "other")
    script = (
        f"import sys; from pathlib import Path; sys.path.insert(0, {tests!r}); import test_mutations as here;"
        f" print(here.digests(Path({other!r})))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    output = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True).stdout
    assert output.decode().strip() == str(digests(tmp_path / "here"))


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of all that every rule writes, but for the time in run.json."""
    runs, out = written(folder), {}
    for rule in rules.names():
        files = contents(made(folder, runs, rule).run.path)
        whole = [content for name, content in sorted(files.items()) if name != "run.json"]
        out[rule] = hashlib.sha256(b"".join(whole)).hexdigest()
    return out


def test_what_is_put_right_counts_as_if_it_had_come_so(tmp_path: Path) -> None:
    runs = written(tmp_path / "files")
    exact = [one.predictions("valid").probs for one in runs]
    rewrite(runs[0], lambda probs: probs.astype(np.float16))
    rewrite(runs[1], lambda probs: probs.astype(np.float16))
    rewrite(runs[2], lambda probs: probs * np.float32(1.0009))
    right = [
        run(tmp_path / "right", one.id, {split: one.predictions(split) for split in one.splits()}) for one in runs
    ]
    for one, probs in zip(right, exact, strict=True):
        read = one.predictions("valid").probs
        assert np.abs(read.sum(axis=1, dtype=np.float64) - 1).max() <= 1e-6
        assert np.abs(read - probs).max() <= 1e-3
    for rule in rules.names():
        first, second = (decided(made(each[0].path.parent, each, rule)) for each in (runs, right))
        assert first == second, rule


@pytest.mark.parametrize("dtype", ["<f8", ">f4", ">f8"])
def test_the_same_numbers_in_another_type_are_the_same(dtype: str) -> None:
    rows = np.exp(np.random.default_rng(0).normal(size=(60, 10)).astype(np.float32))
    rows /= rows.sum(axis=1, keepdims=True)  # a softmax in float32, as networks give it
    ids, classes = np.array([f"i{i}" for i in range(60)]), np.array(list("abcdefghij"))
    one, other = (checked(ids, probs, classes, source="x").probs for probs in (rows, rows.astype(dtype)))
    assert one.tobytes() == other.tobytes()


def test_the_order_of_classes_does_not_decide_whether_a_row_is_near_enough() -> None:
    row = [0.19225035490958947, 0.1143863306836119, 0.2088383427935597, 0.27554791898189523, 0.20997705263134367]
    refused = set()
    for order in permutations(range(5)):
        try:
            checked(np.array(["x"]), np.array([row])[:, order], np.array(list("abcde"))[list(order)], source="x")
            refused.add(False)
        except DataError:
            refused.add(True)
    assert len(refused) == 1


@given(
    k=st.integers(2, 12),
    seed=st.integers(0, 1000),
    spread=st.sampled_from([0.01, 0.3, 5.0]),
    dtype=st.sampled_from(["<f2", "<f4", "<f8", ">f8"]),
    off=st.floats(-9e-4, 9e-4),
)
def test_rows_of_any_precision_are_put_right_whatever_their_order(
    k: int, seed: int, spread: float, dtype: str, off: float
) -> None:
    random = np.random.default_rng(seed)
    given_ = random.dirichlet(np.full(k, spread), 5)
    rows = (given_ if dtype == "<f2" else given_ * (1 + off)).astype(dtype)
    order, columns = random.permutation(5), random.permutation(k)
    ids, classes = (np.array([f"{letter}{i}" for i in range(many)]) for letter, many in (("i", 5), ("c", k)))
    read = checked(ids, rows, classes, source="x").probs
    permuted = checked(ids[order], rows[order][:, columns], classes[columns], source="x").probs
    assert read.dtype == np.float32
    assert np.abs(read.sum(axis=1, dtype=np.float64) - 1).max() <= 1e-6
    assert np.abs(read - given_).max() <= 1e-3
    assert permuted.tobytes() == read[order][:, columns].tobytes()
    assert checked(ids, read, classes, source="x").probs.tobytes() == read.tobytes()


def nested(folder: Path, runs: Sequence[Run]) -> list[Run]:
    """An ensemble of ensembles and another one that shares a member with it."""
    one = made(folder, runs[:2], "accuracy", name="one").run
    two = made(folder, runs[1:], "convex", name="two").run
    return [made(folder, [one, two], "accuracy", name="whole").run, two]


@pytest.mark.parametrize("rule", rules.names())
def test_an_ensemble_of_ensembles_is_one_of_its_leaves(tmp_path: Path, plain: Decided, rule: str) -> None:
    combined = made(tmp_path, nested(tmp_path, written(tmp_path)), rule)
    assert decided(combined) == plain[rule]
    assert any("net1-0 was reached twice and counts once" in note for note in combined.notes)


@pytest.mark.parametrize("rule", rules.names())
def test_no_row_of_it_knows_its_own_target(tmp_path: Path, rule: str) -> None:
    folds = np.random.default_rng(3).permutation(N) % 5
    first, second = (honest(tmp_path / name, rule, folds, flip) for name, flip in (("a", -1), ("b", 2)))
    assert first[folds == 2].tobytes() == second[folds == 2].tobytes()
    if rule not in ("uniform", "auto"):  # which may say the same whatever the targets are
        assert first[folds != 2].tobytes() != second[folds != 2].tobytes()


def honest(folder: Path, rule: str, folds: np.ndarray, flip: int) -> np.ndarray:
    """valid.npz of an ensemble of ensembles, with other targets in the fold `flip`."""
    runs = []
    for i in range(M):
        one = predictions(N, i, skill=0.4 + 0.1 * i)
        targets = np.where(folds == flip, (one.targets + 1) % len(CLASSES), one.targets)
        runs.append(run(folder, f"net{i}-0", {"valid": replace(one, targets=targets)}))
    with pytest.MonkeyPatch.context() as patch:  # the real folds are stratified by the targets
        patch.setattr("ensemble.combine.crossfit.folds_of", lambda *rows: folds)
        return made(folder, nested(folder, runs), rule, threshold=0.5).run.predictions("valid").probs


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
    combined = made(tmp_path, written(tmp_path), rule, metric=metric)
    ours = combined.scores[0]
    assert ours.metric == metric
    assert ours.honest.low <= ours.honest.value <= ours.honest.high
    assert read_ensemble(combined.run).metric == metric
    if rule == "auto":
        assert sorted(entry.rule for entry in combined.report.tournament) == sorted(QUICK)
        sign = 1 if find(metric, CLASSES).higher else -1
        best = max(combined.report.tournament, key=lambda entry: sign * entry.score).score
        near = [entry.rule for entry in combined.report.tournament if abs(entry.score - best) <= entry.error]
        assert combined.rule == min(near, key=lambda name: rules.get(name).complexity)
