"""`combine` on runs: the seed rule by hand, files on disk, the same bytes again."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.fake_runs import contents, member, predictions, rewritten, run

from ensemble.combine.ensembler import combine
from ensemble.combine.record import read_ensemble
from ensemble.core.errors import DataError, MismatchedRuns, NothingPassed, RecipeError
from ensemble.metrics import labels
from ensemble.recipe.schema import CombineSpec


def test_seed_rule_by_hand(tmp_path, three):
    created = combine(three, folder=tmp_path)
    right = [labels(item.predictions("valid").probs) == item.predictions("valid").targets for item in three]
    weights = [hits.mean() / sum(h.mean() for h in right) for hits in right]
    assert {row.id: row.weight for row in created.members} == pytest.approx(
        {item.id: weight for item, weight in zip(three, weights, strict=True)}
    )
    tests = [item.predictions("test").probs.astype(float) for item in three]
    expected = sum(weight * probs for weight, probs in zip(weights, tests, strict=True))
    assert created.run.predictions("test").probs == pytest.approx(expected, abs=1e-6)
    assert (labels(created.run.predictions("test").probs) == expected.argmax(axis=1)).all()


def test_files_of_an_ensemble(tmp_path, three):
    created = combine(three, folder=tmp_path, threshold=0.1, name="trio")
    facts, metrics = created.run.record.values, created.run.metrics
    assert created.run.id == f"trio-{facts['hash'][:8]}" and len(facts["hash"]) == 64
    assert (facts["schema"], facts["kind"], facts["parameters"]) == (1, "ensemble", 30)
    assert [parent["id"] for parent in facts["parents"]] == [item.id for item in three]
    assert set(facts["parents"][0]["sha256"]) == {"valid", "test"}
    assert created.run.fingerprint == three[0].fingerprint
    honest = metrics["honest"]["accuracy"]
    assert honest["low"] < honest["value"] < honest["high"]
    # valid.npz holds the cross-fitted predictions, so its score is the honest one
    assert metrics["valid"]["accuracy"] == honest["value"]
    assert metrics["valid"]["n"] == metrics["apparent"]["n"] == 60
    assert "test" not in metrics
    back = read_ensemble(created.run)
    probs = np.stack([item.predictions("test").probs for item in three])
    assert back.predict(probs).tobytes() == created.run.predictions("test").probs.tobytes()
    assert back.weights == pytest.approx(tuple(back.params["weights"]))


def test_combining_again_in_another_order_gives_the_same_bytes(tmp_path, three):
    first = combine(three, folder=tmp_path, calibrate=True)
    before = contents(first.run.path)
    again = combine(three[::-1], folder=tmp_path, calibrate=True)
    assert again.run.id == first.run.id
    after = contents(first.run.path)
    facts, then = (json.loads(files.pop("run.json")) for files in (after, before))
    assert after == before
    assert facts.pop("combined") > then.pop("combined")
    assert facts == then


def test_other_options_are_other_runs(tmp_path, three):
    options = [{}, {"threshold": 0.6}, {"rule": "uniform"}, {"calibrate": True}, {"per_arch": 2}]
    ids = {combine(three, folder=tmp_path, **option).run.id for option in options}
    ids.add(combine(three[:2], folder=tmp_path).run.id)
    assert len(ids) == 6


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("axis", ["rows", "classes", "both"])
def test_permuted_member_is_aligned(tmp_path, which, axis):
    def created(folder, permuted):
        runs = [member(folder, f"net{i}-0000000{i}", seed=i) for i in range(3)]
        if permuted:
            for split in ("valid", "test"):
                first = runs[which].predictions(split)
                rows = (
                    np.random.default_rng(1).permutation(len(first)) if axis != "classes" else np.arange(len(first))
                )
                columns = np.array([2, 0, 1]) if axis != "rows" else np.arange(3)
                targets = None if first.targets is None else np.argsort(columns)[first.targets][rows]
                changed = replace(
                    first,
                    ids=first.ids[rows],
                    probs=first.probs[rows][:, columns],
                    classes=first.classes[columns],
                    targets=targets,
                )
                rewritten(runs[which], split, changed)
        return combine(runs, folder=folder, metric="log_loss")

    plain, put_right = created(tmp_path / "plain", False), created(tmp_path / "permuted", True)
    for split in ("valid", "test"):
        first, other = (combined.run.predictions(split) for combined in (plain, put_right))
        assert first.classes.tolist() == other.classes.tolist()
        assert first.ids.tolist() == other.ids.tolist()
        assert first.probs.tobytes() == other.probs.tobytes()
    assert plain.run.metrics == put_right.run.metrics


def test_combine_of_further_test_sets(tmp_path, three):
    for seed, item in enumerate(three):
        rewritten(item, "test-night", predictions(9, seed, prefix="n"))
    rewritten(three[0], "test-fog", predictions(9, 5, prefix="f"))
    created = combine(three, folder=tmp_path)
    assert created.run.splits() == ["valid", "test", "test-night"]
    assert created.run.metrics["test-night"]["n"] == 9
    assert any("test-fog is left out" in line for line in created.notes)


def test_targets_may_come_from_one_member(tmp_path, three):
    whole = combine(three, folder=tmp_path)
    before = whole.run.predictions("valid").probs.tobytes()
    for item in three[:2]:
        rewritten(item, "valid", replace(item.predictions("valid"), targets=None))
    again = combine(three, folder=tmp_path)
    assert again.run.predictions("valid").probs.tobytes() == before
    rewritten(three[2], "valid", replace(three[2].predictions("valid"), targets=None))
    with pytest.raises(DataError, match="has validation targets"):
        combine(three, folder=tmp_path)


def test_nothing_above_the_threshold(tmp_path, three):
    created = combine(three, folder=tmp_path, threshold=0.99)
    assert created.notes[0].startswith("no member passed")
    with pytest.raises(NothingPassed):
        combine(three, folder=tmp_path, threshold=0.99, per_arch=0)


@pytest.mark.parametrize("option", [{"threshold": float("nan")}, {"threshold": 1.5}, {"per_arch": -1}])
def test_impossible_options_are_refused(tmp_path, three, option):
    with pytest.raises(RecipeError):
        combine(three, folder=tmp_path, **option)


def test_ensemble_stands_for_its_members(tmp_path, three):
    pair = combine(three[:2], folder=tmp_path, name="pair")
    direct = combine(three, folder=tmp_path, name="all")
    nested = combine([pair.run, three[2], three[0]], folder=tmp_path, name="all")
    assert nested.run.id == direct.run.id
    assert any("net0-00000000 was reached twice" in line for line in nested.notes)


def test_choices_on_validation_rows_are_noted(tmp_path, three):
    early = member(tmp_path, "early-1", seed=4, chosen_on_valid=["best epoch"])
    created = combine([*three, early], folder=tmp_path)
    assert created.run.record.values["chosen_on_valid"] == ["best epoch"]
    assert any("best epoch" in line for line in created.notes)


def test_combine_keeps_groups_whole(tmp_path):
    groups = np.array([f"patient{i // 6}" for i in range(60)])
    runs = [member(tmp_path, f"net{i}-0", seed=i, groups=groups) for i in range(2)]
    created = combine(runs, folder=tmp_path)
    assert created.run.predictions("valid").groups.tolist() == groups.tolist()
    other = groups[::-1].copy()
    rewritten(runs[1], "valid", replace(runs[1].predictions("valid"), groups=other))
    with pytest.raises(MismatchedRuns, match="other groups"):
        combine(runs, folder=tmp_path)


def test_order_of_classes_is_that_of_run_json(tmp_path):
    item = predictions(60, 1)
    columns = np.array([2, 0, 1])
    permuted = replace(
        item, probs=item.probs[:, columns], classes=item.classes[columns], targets=np.argsort(columns)[item.targets]
    )
    created = run(tmp_path, "net-0", {"valid": permuted}, classes=item.classes.tolist())
    assert combine([created], folder=tmp_path).run.predictions("valid").classes.tolist() == item.classes.tolist()


def test_recipe_without_combine_is_the_default():
    defaults = {name: item.default for name, item in inspect.signature(combine).parameters.items()}
    assert CombineSpec().model_dump() == {name: defaults[name] for name in CombineSpec.model_fields}


def test_leaks_of_members_are_noted_beside_the_scores(tmp_path):
    leaks = {"valid": {"exact": 4, "near": 2, "group": 5}, "test": {"exact": 9}}
    splits = {"valid": predictions(60, 1), "test": predictions(20, 2, prefix="t", labelled=False)}
    runs = [run(tmp_path, "net-00000001", splits, leaks=leaks), member(tmp_path, "other-00000002", 2)]
    notes = combine(runs, folder=tmp_path).notes
    assert any("in train: 6 of 60; the scores are too good, the honest one too" in note for note in notes)
    assert not any("in train" in note for note in combine(runs[1:], folder=tmp_path).notes)
