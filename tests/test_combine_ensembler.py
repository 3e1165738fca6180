"""`combine` on runs: the seed rule by hand, the contract on classes and rows, the same bytes again."""

import inspect
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from fake_runs import contents, member, predictions, rewritten, run

from ensemble.combine.candidates import candidates, named, newest_ensemble
from ensemble.combine.ensembler import combine
from ensemble.combine.record import read_ensemble
from ensemble.core.errors import DataError, MismatchedRuns, NothingPassed, RecipeError
from ensemble.core.files import read_json, write_json
from ensemble.metrics import labels
from ensemble.recipe.schema import CombineSpec
from ensemble.runs.run import Run


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """These tests pull no plugs, and hundreds of small files take seconds to sync."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def three(tmp_path):
    return [member(tmp_path, f"net{i}-0000000{i}", seed=i, skill=0.5 + 0.1 * i) for i in range(3)]


def test_the_seed_rule_by_hand(tmp_path, three):
    created = combine(three, folder=tmp_path)
    right = [labels(one.predictions("valid").probs) == one.predictions("valid").targets for one in three]
    weights = [hits.mean() / sum(h.mean() for h in right) for hits in right]
    assert {row.id: row.weight for row in created.members} == pytest.approx(
        {one.id: weight for one, weight in zip(three, weights, strict=True)}
    )
    tests = [one.predictions("test").probs.astype(float) for one in three]
    expected = sum(weight * probs for weight, probs in zip(weights, tests, strict=True))
    assert created.run.predictions("test").probs == pytest.approx(expected, abs=1e-6)
    assert (labels(created.run.predictions("test").probs) == expected.argmax(axis=1)).all()


def test_what_is_on_disk(tmp_path, three):
    created = combine(three, folder=tmp_path, threshold=0.1, name="trio")
    facts, metrics = created.run.record.values, created.run.metrics
    assert created.run.id == f"trio-{facts['hash'][:8]}" and len(facts["hash"]) == 64
    assert (facts["schema"], facts["kind"], facts["parameters"]) == (1, "ensemble", 30)
    assert [parent["id"] for parent in facts["parents"]] == [one.id for one in three]
    assert set(facts["parents"][0]["sha256"]) == {"valid", "test"}
    assert created.run.fingerprint == three[0].fingerprint
    honest = metrics["honest"]["accuracy"]
    assert honest["low"] < honest["value"] < honest["high"]
    # valid.npz holds the cross-fitted predictions, so its score is the honest one
    assert metrics["valid"]["accuracy"] == honest["value"]
    assert metrics["valid"]["n"] == metrics["apparent"]["n"] == 60
    assert "test" not in metrics
    back = read_ensemble(created.run)
    probs = np.stack([one.predictions("test").probs for one in three])
    assert back.predict(probs).tobytes() == created.run.predictions("test").probs.tobytes()
    assert back.weights == pytest.approx(tuple(back.params["weights"]))


def test_again_and_in_another_order_gives_the_same_bytes(tmp_path, three):
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
def test_a_permuted_member_is_put_right(tmp_path, which, axis):
    def made(folder, permuted):
        runs = [member(folder, f"net{i}-0000000{i}", seed=i) for i in range(3)]
        if permuted:
            for split in ("valid", "test"):
                one = runs[which].predictions(split)
                rows = np.random.default_rng(1).permutation(len(one)) if axis != "classes" else np.arange(len(one))
                columns = np.array([2, 0, 1]) if axis != "rows" else np.arange(3)
                targets = None if one.targets is None else np.argsort(columns)[one.targets][rows]
                changed = replace(
                    one,
                    ids=one.ids[rows],
                    probs=one.probs[rows][:, columns],
                    classes=one.classes[columns],
                    targets=targets,
                )
                rewritten(runs[which], split, changed)
        return combine(runs, folder=folder, metric="log_loss")

    plain, put_right = made(tmp_path / "plain", False), made(tmp_path / "permuted", True)
    for split in ("valid", "test"):
        one, other = (combined.run.predictions(split) for combined in (plain, put_right))
        assert one.classes.tolist() == other.classes.tolist()
        assert one.ids.tolist() == other.ids.tolist()
        assert one.probs.tobytes() == other.probs.tobytes()
    assert plain.run.metrics == put_right.run.metrics


def _lacking_row(one):
    return replace(one, ids=one.ids[1:], probs=one.probs[1:], targets=one.targets[1:])


def _extra_row(one):
    return replace(one, ids=np.array(["v999", *one.ids[1:]]))


def _repeated_row(one):
    return replace(one, ids=np.array([one.ids[1], *one.ids[1:]]))


def _other_class(one):
    return replace(one, classes=np.array(["ant", "bee", "dog"]))


def _nan(one):
    probs = one.probs.copy()
    probs[4, 0] = np.nan
    return replace(one, probs=probs)


def _far_from_one(one):
    return replace(one, probs=one.probs * np.float32(1.01))


def _other_targets(one):
    targets = one.targets.copy()
    targets[3] = (targets[3] + 1) % 3
    return replace(one, targets=targets)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_lacking_row, "net1-00000001/valid.npz has 59 ids, 60 expected (missing: 'v000')"),
        (_extra_row, "net1-00000001/valid.npz has 60 ids, 60 expected (missing: 'v000'; extra: 'v999')"),
        (_repeated_row, "net1-00000001/valid.npz: the same id twice: 'v001'"),
        (_other_class, "net1-00000001/valid.npz has 3 classes, 3 expected (missing: 'cat'; extra: 'dog')"),
        (_nan, "net1-00000001/valid.npz: 1 rows are not probabilities"),
        (_far_from_one, "net1-00000001/valid.npz: 60 rows are not probabilities"),
        (
            _other_targets,
            "net1-00000001/valid.npz and net0-00000000/valid.npz have other targets for 1 items: 'v003'",
        ),
    ],
)
def test_members_that_do_not_fit_are_refused_by_name(tmp_path, three, change, message):
    rewritten(three[1], "valid", change(three[1].predictions("valid")))
    before = contents(tmp_path)
    with pytest.raises(DataError) as caught:
        combine(three, folder=tmp_path)
    assert message in str(caught.value)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before


def test_runs_of_different_data_sets_are_refused(tmp_path, three):
    other = member(tmp_path, "other-1", seed=9, data={"fingerprint": "c" * 64})
    with pytest.raises(MismatchedRuns, match="different data sets"):
        combine([*three, other], folder=tmp_path)


def test_a_member_without_test_predictions_is_refused(tmp_path, three):
    (three[2].path / "test.npz").unlink()
    with pytest.raises(MismatchedRuns, match="'net2-00000002' have no test predictions, net0-00000000 has"):
        combine(three, folder=tmp_path)


def test_a_member_that_is_left_out_needs_no_test_predictions(tmp_path, three):
    worst = min(three, key=lambda one: one.metrics["valid"]["accuracy"])
    (worst.path / "test.npz").unlink()
    bar = worst.metrics["valid"]["accuracy"]
    assert combine(three, folder=tmp_path, threshold=bar, per_arch=0).has_test


def test_no_test_predictions_anywhere_is_said(tmp_path, three):
    for one in three:
        (one.path / "test.npz").unlink()
    created = combine(three, folder=tmp_path)
    assert not created.has_test
    assert any("nothing to submit" in line for line in created.notes)


def test_predictions_of_a_test_set_that_has_changed_since_are_refused(tmp_path, three):
    data = {**three[0].record.values["data"], "tests": {"test": "c" * 64}}
    later = member(tmp_path, "later-1", seed=7, data=data)
    with pytest.raises(MismatchedRuns, match="predicted another test"):
        combine([*three, later], folder=tmp_path)


def test_further_test_sets(tmp_path, three):
    for seed, one in enumerate(three):
        rewritten(one, "test-night", predictions(9, seed, prefix="n"))
    rewritten(three[0], "test-fog", predictions(9, 5, prefix="f"))
    created = combine(three, folder=tmp_path)
    assert created.run.splits() == ["valid", "test", "test-night"]
    assert created.run.metrics["test-night"]["n"] == 9
    assert any("test-fog is left out" in line for line in created.notes)


def test_targets_may_come_from_one_member(tmp_path, three):
    whole = combine(three, folder=tmp_path)
    before = whole.run.predictions("valid").probs.tobytes()
    for one in three[:2]:
        rewritten(one, "valid", replace(one.predictions("valid"), targets=None))
    again = combine(three, folder=tmp_path)
    assert again.run.predictions("valid").probs.tobytes() == before
    rewritten(three[2], "valid", replace(three[2].predictions("valid"), targets=None))
    with pytest.raises(DataError, match="has validation targets"):
        combine(three, folder=tmp_path)


def test_nothing_above_the_bar(tmp_path, three):
    created = combine(three, folder=tmp_path, threshold=0.99)
    assert created.notes[0].startswith("no member passed")
    with pytest.raises(NothingPassed):
        combine(three, folder=tmp_path, threshold=0.99, per_arch=0)


@pytest.mark.parametrize("option", [{"threshold": float("nan")}, {"threshold": 1.5}, {"per_arch": -1}])
def test_options_that_make_no_sense(tmp_path, three, option):
    with pytest.raises(RecipeError):
        combine(three, folder=tmp_path, **option)


def test_an_ensemble_stands_for_its_members(tmp_path, three):
    pair = combine(three[:2], folder=tmp_path, name="pair")
    direct = combine(three, folder=tmp_path, name="all")
    nested = combine([pair.run, three[2], three[0]], folder=tmp_path, name="all")
    assert nested.run.id == direct.run.id
    assert any("net0-00000000 was reached twice" in line for line in nested.notes)


def test_candidates_are_the_complete_members_of_the_data_set(tmp_path, three):
    combine(three, folder=tmp_path)
    kinds = {"folds": True, "import": True, "refit": False, "student": False}
    for kind in kinds:
        member(tmp_path, f"{kind}-1", seed=8, kind=kind)
    run(tmp_path, "fold-0", {"valid": predictions(9, 1)}, fold=0)
    member(tmp_path, "elsewhere-1", seed=8, data={"fingerprint": "c" * 64})
    (member(tmp_path, "failed-1", seed=8).path / "failed.json").write_text("{}")
    (member(tmp_path, "unfinished-1", seed=8).path / "metrics.json").unlink()
    expected = [one.id for one in three] + [f"{kind}-1" for kind, joins in kinds.items() if joins]
    assert [one.id for one in candidates(tmp_path, three[0].fingerprint)] == sorted(expected)


def test_no_candidates(tmp_path):
    with pytest.raises(DataError, match="type `ens train`"):
        combine([], folder=tmp_path)


def test_named_runs(tmp_path, three):
    assert [one.id for one in named(tmp_path, ["net1", "net0-00000000"])] == [
        "net1-00000001",
        "net0-00000000",
    ]
    with pytest.raises(DataError, match="named twice: 'net1-00000001'"):
        named(tmp_path, ["net1", "net1-00000001"])
    with pytest.raises(DataError, match="0 runs"):
        named(tmp_path, ["resnet"])


@pytest.mark.parametrize(("name", "valid"), [("a/b", False), ("..", False), ("-x", False), ("späte Füchse", True)])
def test_names_of_ensembles(tmp_path, three, name, valid):
    if valid:
        assert combine(three, folder=tmp_path, name=name).run.id.startswith(name)
    else:
        with pytest.raises(RecipeError, match="cannot name a folder"):
            combine(three, folder=tmp_path, name=name)


def test_refits_predict_and_the_parents_are_scored(tmp_path, three):
    plain = combine(three, folder=tmp_path)
    refits = [
        run(
            tmp_path,
            f"full{i}-1",
            {"test": predictions(20, 50 + i, prefix="t", labelled=False)},
            kind="refit",
            parents=[one],
        )
        for i, one in enumerate(three)
    ]
    created = combine(three, folder=tmp_path, refits=True)
    assert created.run.id != plain.run.id
    assert created.run.predictions("valid").probs.tobytes() == plain.run.predictions("valid").probs.tobytes()
    weights = read_ensemble(created.run).weights
    expected = sum(w * one.predictions("test").probs.astype(float) for w, one in zip(weights, refits, strict=True))
    assert created.run.predictions("test").probs == pytest.approx(expected, abs=1e-6)
    assert any("before the refit" in line for line in created.notes)
    assert created.run.metrics["score_of"] == "the members before the refit"
    assert read_ensemble(created.run).sources == tuple(one.id for one in refits)


def test_a_member_without_a_refit_is_named(tmp_path, three):
    with pytest.raises(DataError, match="net0-00000000 has no refit"):
        combine(three, folder=tmp_path, refits=True)


def test_a_refit_cannot_be_weighed(tmp_path, three):
    refit = run(tmp_path, "full-1", {"test": predictions(20, 1, prefix="t")}, kind="refit", parents=[three[0]])
    with pytest.raises(DataError, match="name its parent and add --refits"):
        combine([*three, refit], folder=tmp_path)


def test_what_was_chosen_on_the_validation_rows_is_said(tmp_path, three):
    early = member(tmp_path, "early-1", seed=4, chosen_on_valid=["best epoch"])
    created = combine([*three, early], folder=tmp_path)
    assert created.run.record.values["chosen_on_valid"] == ["best epoch"]
    assert any("best epoch" in line for line in created.notes)


def test_groups_are_kept_whole_and_widen_nothing_else(tmp_path):
    groups = np.array([f"patient{i // 6}" for i in range(60)])
    runs = [member(tmp_path, f"net{i}-0", seed=i, groups=groups) for i in range(2)]
    created = combine(runs, folder=tmp_path)
    assert created.run.predictions("valid").groups.tolist() == groups.tolist()
    other = groups[::-1].copy()
    rewritten(runs[1], "valid", replace(runs[1].predictions("valid"), groups=other))
    with pytest.raises(MismatchedRuns, match="other groups"):
        combine(runs, folder=tmp_path)


def test_the_newest_ensemble(tmp_path, three):
    with pytest.raises(DataError, match="type `ens combine` first"):
        newest_ensemble(tmp_path, three[0].fingerprint)
    combine(three, folder=tmp_path)
    last = combine(three, folder=tmp_path, rule="uniform")
    assert newest_ensemble(tmp_path, three[0].fingerprint).id == last.run.id
    again = combine(three, folder=tmp_path)
    assert newest_ensemble(tmp_path, three[0].fingerprint).id == again.run.id
    for one in (again, last):  # a copy has the files' times in whatever order
        os.utime(one.run.path / "metrics.json")
        assert newest_ensemble(tmp_path, three[0].fingerprint).id == again.run.id


def test_an_ensemble_without_the_time_of_combining_goes_by_created(tmp_path, three):
    first, second = (combine(three, folder=tmp_path, rule=rule).run for rule in ("accuracy", "uniform"))
    for created, path in (("2026-01-02", first.path), ("2026-01-01", second.path)):
        facts = {**read_json(path / "run.json"), "created": f"{created}T00:00:00+00:00"}
        write_json(path / "run.json", {key: value for key, value in facts.items() if key != "combined"})
    os.utime(second.path / "metrics.json")
    assert newest_ensemble(tmp_path, three[0].fingerprint).id == first.id
    for path in (first.path, second.path):  # neither says anything: the files' own times are all there is
        facts = read_json(path / "run.json")
        write_json(path / "run.json", {key: value for key, value in facts.items() if key != "created"})
    os.utime(first.path / "metrics.json", (1, 1))
    assert newest_ensemble(tmp_path, three[0].fingerprint).id == second.id


def test_a_broken_ensemble_yaml_is_one_line(tmp_path, three):
    created = combine(three, folder=tmp_path)
    (created.run.path / "ensemble.yaml").write_text("rule: accuracy\n")
    with pytest.raises(DataError, match="combine again"):
        read_ensemble(Run(created.run.path))


def test_the_order_of_classes_is_that_of_run_json(tmp_path):
    one = predictions(60, 1)
    columns = np.array([2, 0, 1])
    permuted = replace(
        one, probs=one.probs[:, columns], classes=one.classes[columns], targets=np.argsort(columns)[one.targets]
    )
    created = run(tmp_path, "net-0", {"valid": permuted}, classes=one.classes.tolist())
    assert combine([created], folder=tmp_path).run.predictions("valid").classes.tolist() == one.classes.tolist()


@pytest.mark.parametrize("newest", [0, 1])
def test_the_newest_refit_predicts(tmp_path, newest):
    parent = member(tmp_path, "net-0", seed=1)
    fulls = [
        run(
            tmp_path,
            f"full-{i}",
            {"test": predictions(20, 50 + i, prefix="t", labelled=False)},
            kind="refit",
            parents=[parent],
            created=f"2026-01-0{2 if i == newest else 1}T00:00:00+00:00",
        )
        for i in range(2)
    ]
    created = combine([parent], folder=tmp_path, refits=True).run
    assert read_ensemble(created).sources == (fulls[newest].id,)


def test_a_recipe_without_combine_says_what_no_recipe_says():
    defaults = {name: one.default for name, one in inspect.signature(combine).parameters.items()}
    assert CombineSpec().model_dump() == {name: defaults[name] for name in CombineSpec.model_fields}


def test_leaks_of_the_members_are_said_beside_the_scores(tmp_path):
    leaks = {"valid": {"exact": 4, "near": 2, "group": 5}, "test": {"exact": 9}}
    splits = {"valid": predictions(60, 1), "test": predictions(20, 2, prefix="t", labelled=False)}
    runs = [run(tmp_path, "net-00000001", splits, leaks=leaks), member(tmp_path, "other-00000002", 2)]
    notes = combine(runs, folder=tmp_path).notes
    assert any("in train: 6 of 60; the scores are too good, the honest one too" in note for note in notes)
    assert not any("in train" in note for note in combine(runs[1:], folder=tmp_path).notes)
