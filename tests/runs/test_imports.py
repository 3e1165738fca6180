"""Predictions made elsewhere become a run, which is combined like ours."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers.fake_runs import FINGERPRINT, contents, member, predictions, run
from helpers.imported import as_csv

from ensemble.combine.candidates import candidates
from ensemble.combine.ensembler import combine
from ensemble.combine.rules import rules
from ensemble.core.errors import DataError, RecipeError
from ensemble.core.files import read_json, write_json
from ensemble.core.predictions import Predictions, save
from ensemble.runs.import_files import read_predictions
from ensemble.runs.imports import import_run
from ensemble.runs.run import Run


def test_import_of_csv_is_that_of_npz(tmp_path, runs):
    ours = predictions(30, 1)
    from_csv = import_run("x", folder=runs, valid=as_csv(tmp_path / "v.csv", ours, target="label"))
    before = contents(from_csv.run.path)
    from_npz = import_run("x", folder=runs, valid=save(tmp_path / "v.npz", ours))
    assert from_npz.run.id == from_csv.run.id
    after = contents(from_npz.run.path)
    assert {name for name in before if before[name] != after[name]} == {"run.json"}  # which names the file
    assert (from_csv.run.kind, from_csv.run.arch) == ("import", from_csv.run.id)
    assert from_csv.run.metrics["valid"]["n"] == 30


def test_import_joins_the_data_set_of_its_ids(tmp_path, runs):
    ours = member(runs, "net-0", seed=1)
    valid = replace(predictions(60, 2), targets=None)
    rows = np.random.default_rng(0).permutation(60)
    valid = replace(valid, ids=valid.ids[rows], probs=valid.probs[rows])
    test = predictions(20, 3, prefix="t", labelled=False)
    created = import_run(
        "swin",
        folder=runs,
        valid=as_csv(tmp_path / "v.csv", valid, columns=(2, 0, 1)),
        test=as_csv(tmp_path / "t.csv", test, columns=(1, 0, 2)),
        arch="swin_t",
    )
    assert created.matched == ours.id
    assert created.run.fingerprint == FINGERPRINT
    assert created.run.arch == "swin_t"
    back = created.run.predictions("valid")
    assert back.classes.tolist() == ["ant", "bee", "cat"]
    assert back.targets.tolist() == ours.predictions("valid").targets.tolist()
    assert created.run.predictions("test").probs == pytest.approx(test.probs, abs=1e-7)
    assert [item.id for item in candidates(runs, FINGERPRINT)] == [ours.id, created.run.id]
    assert combine(candidates(runs, FINGERPRINT), folder=runs).has_test


def test_import_without_a_match_has_its_own_fingerprint(tmp_path, runs):
    first = import_run("x", folder=runs, valid=save(tmp_path / "v.npz", predictions(9, 1)))
    second = import_run("y", folder=runs, valid=save(tmp_path / "w.npz", predictions(9, 2)))
    assert first.run.fingerprint == second.run.fingerprint != FINGERPRINT
    assert combine([first.run, second.run], folder=runs).run.complete


def test_import_without_targets(tmp_path, runs):
    created = import_run("x", folder=runs, valid=save(tmp_path / "v.npz", predictions(9, 1, labelled=False)))
    assert not created.labelled
    assert created.run.complete
    assert "valid" not in created.run.metrics


def test_import_with_a_later_test_keeps_its_id(tmp_path, runs):
    valid = save(tmp_path / "v.npz", predictions(9, 1))
    first = import_run("x", folder=runs, valid=valid).run
    test = save(tmp_path / "t.npz", predictions(4, 1, prefix="t", labelled=False))
    second = import_run("x", folder=runs, valid=valid, test=test).run
    assert first.id == second.id
    assert second.has("test")


def test_import_name_that_is_no_folder(tmp_path, runs):
    valid = save(tmp_path / "v.npz", Predictions(np.array(["x"]), np.array([[1, 0]], "f4"), np.array(["a", "b"])))
    with pytest.raises(RecipeError, match="cannot name a folder"):
        import_run("../x", folder=runs, valid=valid)


def test_import_again_without_a_test_removes_it(tmp_path, runs):
    valid = save(tmp_path / "v.npz", predictions(9, 1))
    test = save(tmp_path / "t.npz", predictions(4, 1, prefix="t", labelled=False))
    created = import_run("x", folder=runs, valid=valid, test=test).run
    save(created.path / "test-night.npz", predictions(4, 1))
    assert import_run("x", folder=runs, valid=valid).run.splits() == ["valid"]


def test_killed_import_leaves_the_run_incomplete(tmp_path, runs, monkeypatch):
    valid = save(tmp_path / "v.npz", predictions(9, 1))
    test = save(tmp_path / "t.npz", predictions(4, 1, prefix="t", labelled=False))
    result = import_run("x", folder=runs, valid=valid, test=test).run
    created = result.record.values["created"]

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ensemble.runs.writing.write_atomically", killed)
        patch.setattr("ensemble.runs.writing.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            import_run("x", folder=runs, valid=valid, test=test)
        assert result.complete  # nothing would have changed
        other = save(tmp_path / "t.npz", predictions(4, 2, prefix="t", labelled=False))
        with pytest.raises(KeyboardInterrupt):
            import_run("x", folder=runs, valid=valid, test=other)
        assert not result.complete
    again = import_run("x", folder=runs, valid=valid, test=other).run
    assert again.complete and again.record.values["created"] >= created


def test_import_of_another_test_is_not_the_known_one(tmp_path, runs):
    member(runs, "net-0", seed=1)
    valid = save(tmp_path / "v.npz", predictions(60, 2, labelled=False))
    for prefix, tests in (("t", {"test": "b" * 64}), ("u", {})):
        test = save(tmp_path / f"{prefix}.npz", predictions(20, 3, prefix=prefix, labelled=False))
        assert import_run("x", folder=runs, valid=valid, test=test).run.record.values["data"]["tests"] == tests


@pytest.mark.parametrize("rule", rules.names())
@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("form", ["csv", "npz"])
def test_import_is_combined_as_the_native_run(tmp_path, runs, monkeypatch, form, labelled, rule):
    """With its rows and columns in another order, and under a name that sorts as the native one's does."""
    monkeypatch.setattr("ensemble.combine.crossfit.MOST_REPEATS", 1)
    first, native, last = [member(runs, f"net{i}-0", seed=i) for i in range(3)]
    files = {
        split: elsewhere(tmp_path / f"{split}.{form}", native.predictions(split), labelled and split == "valid")
        for split in ("valid", "test")
    }
    item = combine([first, native, last], folder=runs, rule=rule, name=native.id)
    shutil.rmtree(native.path)  # the same predictions again would be refused
    imported = import_run("net1", folder=runs, **files).run
    other = combine([first, imported, last], folder=runs, rule=rule, name=imported.id)
    for split in ("valid", "test"):
        ours, theirs = (created.run.predictions(split) for created in (item, other))
        assert ours.ids.tolist() == theirs.ids.tolist()
        assert ours.classes.tolist() == theirs.classes.tolist()
        assert ours.probs.tobytes() == theirs.probs.tobytes()
    assert item.run.metrics == other.run.metrics
    assert [row.weight for row in item.members] == [row.weight for row in other.members]


def elsewhere(path, item, labelled):
    """A file of the same predictions as somebody else would write it."""
    rows, columns = np.random.default_rng(4).permutation(len(item)), np.array([1, 2, 0])
    targets = np.argsort(columns)[item.targets[rows]] if labelled else None
    mixed = Predictions(item.ids[rows], item.probs[rows][:, columns], item.classes[columns], targets)
    return save(path, mixed) if path.suffix == ".npz" else as_csv(path, mixed, target="label" if labelled else None)


@pytest.mark.parametrize("form", ["csv", "npz"])
def test_import_in_another_order_is_the_same_run(tmp_path, runs, form):
    native = member(runs, "net-0", seed=1)
    valid = native.predictions("valid")
    shutil.rmtree(native.path)
    before = import_run("x", folder=runs, valid=save(tmp_path / "plain.npz", valid)).run
    old = contents(before.path)
    after = import_run("x", folder=runs, valid=elsewhere(tmp_path / f"v.{form}", valid, True)).run
    assert after.id == before.id
    assert {name for name in old if contents(after.path)[name] != old[name]} == {"run.json"}  # which names the file


def test_import_of_float64_csv_and_npz_are_the_same_run(tmp_path, runs):
    random = np.random.default_rng(0)
    probs = random.dirichlet(np.ones(3), 30)
    item = predictions(30, 1)
    lines = [
        "id,ant,bee,cat",
        *(",".join([name, *map(repr, row)]) for name, row in zip(item.ids, probs.tolist(), strict=True)),
    ]
    (tmp_path / "v.csv").write_text("\n".join(lines) + "\n")
    np.savez(tmp_path / "v.npz", ids=item.ids, probs=probs, classes=item.classes)
    read = [read_predictions(tmp_path / f"v.{form}").probs.tobytes() for form in ("csv", "npz")]
    assert read[0] == read[1]


def rounded(path, item, digits):
    """A CSV with so many decimals."""
    lines = [
        ",".join([name, *(f"{p:.{digits}f}" for p in row)]) for name, row in zip(item.ids, item.probs, strict=True)
    ]
    path.write_text("\n".join(["id,ant,bee,cat", *lines]) + "\n")
    return path


@pytest.mark.parametrize("digits", [4, 7])
@pytest.mark.parametrize("of", ["member", "import"])
def test_import_under_another_name_is_refused(tmp_path, runs, digits, of):
    item = predictions(60, 2)
    held = (
        run(runs, "net-0", {"valid": item})
        if of == "member"
        else import_run("first", folder=runs, valid=save(tmp_path / "a.npz", item)).run
    )
    before = contents(runs)
    again = rounded(tmp_path / "v.csv", item, digits)
    with pytest.raises(DataError, match=f"holds the predictions of {held.id}, which would be counted twice"):
        import_run("second", folder=runs, valid=again)
    with pytest.raises(DataError, match="counted twice"):
        import_run("first", folder=runs, valid=again, arch="other")
    assert contents(runs) == before
    # others that agree on these rows, but not on the test, are two models
    alike, test = save(tmp_path / "b.npz", item), [predictions(9, i, prefix="t", labelled=False) for i in range(2)]
    shutil.rmtree(held.path)
    created = [
        import_run(f"net{i}", folder=runs, valid=alike, test=save(tmp_path / f"t{i}.npz", test[i])).run
        for i in range(2)
    ]
    assert len(combine(created, folder=runs).members) == 2


def test_imported_copies_count_once(tmp_path, runs):
    first, other = (member(runs, f"net{i}-0", seed=i) for i in range(2))
    plain = combine([first, other], folder=runs).run
    copy = runs / "a-copy-0"
    shutil.copytree(other.path, copy)
    write_json(copy / "run.json", {**read_json(copy / "run.json"), "kind": "import"})
    created = combine([first, other, Run(copy)], folder=runs)
    assert created.run.id == plain.id
    assert "a-copy-0 has the same predictions as net1-0 and counts once" in created.notes


def test_import_of_a_new_version_notes_the_old_one(tmp_path, runs):
    first = import_run("x", folder=runs, valid=save(tmp_path / "v.npz", predictions(60, 1)))
    mended = predictions(60, 2)
    second = import_run("x", folder=runs, valid=save(tmp_path / "v.npz", mended), targets_from=first.run)
    assert f"{first.run.id} of this name and data is there already; it will vote" in second.notes[-1]
