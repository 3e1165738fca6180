"""An import's ids and targets, matched with those of the data set."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from helpers.fake_runs import FINGERPRINT, contents, member, predictions, run
from helpers.imported import as_csv, dataset_of_predictions, numbered

from ensemble.core.errors import DataError, MismatchedRuns
from ensemble.core.predictions import save
from ensemble.runs.imports import import_run


def test_import_takes_targets_of_the_data_set(tmp_path, runs):
    valid = save(tmp_path / "v.npz", predictions(60, 1, labelled=False))
    test = save(tmp_path / "t.npz", predictions(20, 1, prefix="t", labelled=False))
    created = import_run(
        "x", folder=runs, valid=valid, test=test, dataset=partial(dataset_of_predictions, "d" * 64)
    )
    assert created.matched == "the current data set"
    assert created.run.record.values["data"] == {"form": None, "fingerprint": "d" * 64, "tests": {"test": "b" * 64}}
    assert created.run.predictions("valid").targets.tolist() == predictions(60, 1).targets.tolist()
    second = save(tmp_path / "x.npz", predictions(60, 2, labelled=False))
    other = import_run("y", folder=runs, valid=second, dataset=partial(pytest.fail, "a run knows these ids"))
    assert other.matched == created.run.id
    short = save(tmp_path / "w.npz", predictions(59, 1, labelled=False))
    assert (
        import_run("z", folder=runs, valid=short, dataset=partial(dataset_of_predictions, "d" * 64)).matched is None
    )


def test_import_takes_targets_of_a_named_run(tmp_path, runs):
    member(runs, "a-0", seed=1)
    other = run(runs, "b-0", {"valid": predictions(60, 2)}, data={"fingerprint": "c" * 64})
    valid = save(tmp_path / "v.npz", predictions(60, 3, labelled=False))
    assert import_run("x", folder=runs, valid=valid, targets_from=other).run.fingerprint == "c" * 64
    current = partial(dataset_of_predictions, fingerprint=FINGERPRINT)
    assert import_run("x", folder=runs, valid=valid, dataset=current).run.fingerprint == FINGERPRINT
    short = save(tmp_path / "w.npz", predictions(59, 1, labelled=False))
    with pytest.raises(MismatchedRuns, match="missing: 'v059'"):
        import_run("x", folder=runs, valid=short, targets_from=other)


def test_targets_that_disagree_are_refused(tmp_path, runs):
    member(runs, "net-0", seed=1)
    item = predictions(60, 2)
    targets = item.targets.copy()
    targets[7] = (targets[7] + 1) % 3
    before = contents(runs)
    with pytest.raises(MismatchedRuns, match="other targets for 1 items: 'v007'"):
        import_run("x", folder=runs, valid=save(tmp_path / "v.npz", replace(item, targets=targets)))
    assert contents(runs) == before


def test_import_ids_may_be_file_names(tmp_path, runs):
    """`ens` names items without the extension; a table of another tool often keeps it."""
    member(runs, "net-00000001", 1)
    theirs = {split: predictions(n, 5, prefix=split[0]) for split, n in (("valid", 60), ("test", 20))}
    paths = {}
    for split, item in theirs.items():
        named = replace(item, ids=np.array([f"{name}.png" for name in item.ids.tolist()]), targets=None)
        paths[split] = as_csv(tmp_path / f"{split}.csv", named)
    imported = import_run("x", folder=runs, **paths)
    assert imported.matched == "net-00000001"
    assert imported.run.predictions("valid").ids.tolist() == theirs["valid"].ids.tolist()
    assert imported.run.predictions("test").ids.tolist() == theirs["test"].ids.tolist()


def test_test_rows_that_are_validation_rows_are_refused(tmp_path, runs):
    item = predictions(30, 1)
    valid = save(tmp_path / "v.npz", item)
    some = predictions(12, 2, prefix="t")
    mixed = replace(some, ids=np.array([*some.ids[:-2], "v000", "v001"]))
    for test, message in (
        (valid, "30 of 30 ids"),
        (save(tmp_path / "t.npz", mixed), "2 of 12 ids .* 'v000', 'v001'"),
    ):
        with pytest.raises(DataError, match=message):
            import_run("x", folder=runs, valid=valid, test=test)
    assert not runs.exists()


def test_numbered_like_the_validation_rows_is_accepted(tmp_path, runs):
    """As where train.csv and test.csv both count from one."""
    run(runs, "net-0", {"valid": predictions(30, 1), "test": predictions(20, 2)})
    valid, test = save(tmp_path / "v.npz", predictions(30, 3)), save(tmp_path / "t.npz", predictions(20, 4))
    assert import_run("x", folder=runs, valid=valid, test=test).run.has("test")
    with pytest.raises(DataError, match="10 of 30 ids"):
        import_run("y", folder=runs, valid=save(tmp_path / "w.npz", predictions(30, 5)), test=tmp_path / "w.npz")


def test_targets_that_count_from_zero_are_shifted(tmp_path, runs):
    ours = predictions(60, 1)
    created = import_run("x", folder=runs, valid=numbered(tmp_path / "v.csv", ours, ours.targets))
    expected = import_run("y", folder=runs / "y", valid=numbered(tmp_path / "w.csv", ours, ours.targets + 1))
    assert created.run.metrics["valid"]["accuracy"] == expected.run.metrics["valid"]["accuracy"]
    assert "'0' in 'target' is no class, and no target is '3': +1 is added to each target" in created.notes[0]
    assert not expected.notes


def test_targets_that_fit_no_better_when_shifted_are_refused(tmp_path, runs):
    ours = predictions(60, 1)
    moved = np.where(ours.targets == 2, 0, ours.targets)  # 0 is there, 3 is not, and the rows say nothing
    wrong = replace(ours, probs=np.random.default_rng(0).dirichlet(np.ones(3), 60))
    with pytest.raises(DataError, match=r"targets that are no class: '0'.*\(\+1 to each\)"):
        import_run("x", folder=runs, valid=numbered(tmp_path / "v.csv", wrong, moved))


def test_shifted_targets_are_named(tmp_path, runs):
    ours = predictions(200, 1)
    beside = (ours.probs.argmax(1) + 1) % 3
    created = import_run("x", folder=runs, valid=save(tmp_path / "v.npz", replace(ours, targets=beside)))
    assert "below chance (0.3333); with the class before each target it would be" in created.notes[0]
    assert not import_run("y", folder=runs / "y", valid=save(tmp_path / "w.npz", ours)).notes


def test_import_ids_with_folders_or_extensions(tmp_path, runs):
    ours = member(runs, "net-0", seed=1)
    theirs = predictions(60, 2)
    theirs = replace(theirs, ids=np.array([f"images/{name}.png" for name in theirs.ids]), targets=None)
    created = import_run("x", folder=runs, valid=save(tmp_path / "v.npz", theirs))
    assert (
        created.matched == ours.id
        and created.run.predictions("valid").ids.tolist() == ours.predictions("valid").ids.tolist()
    )
    assert any("ids such as" in line for line in created.notes)
