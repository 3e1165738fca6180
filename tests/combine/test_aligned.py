"""Members that do not belong together are refused by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.fake_runs import contents, member, rewritten

from ensemble.combine.ensembler import combine
from ensemble.core.errors import DataError, MismatchedRuns


def _lacking_row(item):
    return replace(item, ids=item.ids[1:], probs=item.probs[1:], targets=item.targets[1:])


def _extra_row(item):
    return replace(item, ids=np.array(["v999", *item.ids[1:]]))


def _repeated_row(item):
    return replace(item, ids=np.array([item.ids[1], *item.ids[1:]]))


def _other_class(item):
    return replace(item, classes=np.array(["ant", "bee", "dog"]))


def _nan(item):
    probs = item.probs.copy()
    probs[4, 0] = np.nan
    return replace(item, probs=probs)


def _far_from_one(item):
    return replace(item, probs=item.probs * np.float32(1.01))


def _other_targets(item):
    targets = item.targets.copy()
    targets[3] = (targets[3] + 1) % 3
    return replace(item, targets=targets)


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
def test_mismatched_members_are_refused_by_name(tmp_path, three, change, message):
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


def test_member_without_test_predictions_is_refused(tmp_path, three):
    (three[2].path / "test.npz").unlink()
    with pytest.raises(MismatchedRuns, match="'net2-00000002' have no test predictions, net0-00000000 has"):
        combine(three, folder=tmp_path)


def test_member_left_out_needs_no_test_predictions(tmp_path, three):
    worst = min(three, key=lambda item: item.metrics["valid"]["accuracy"])
    (worst.path / "test.npz").unlink()
    bar = worst.metrics["valid"]["accuracy"]
    assert combine(three, folder=tmp_path, threshold=bar, per_arch=0).has_test


def test_no_test_predictions_at_all_are_noted(tmp_path, three):
    for item in three:
        (item.path / "test.npz").unlink()
    created = combine(three, folder=tmp_path)
    assert not created.has_test
    assert any("nothing to submit" in line for line in created.notes)


def test_predictions_of_a_changed_test_set_are_refused(tmp_path, three):
    data = {**three[0].record.values["data"], "tests": {"test": "c" * 64}}
    later = member(tmp_path, "later-1", seed=7, data=data)
    with pytest.raises(MismatchedRuns, match="predicted another test"):
        combine([*three, later], folder=tmp_path)
