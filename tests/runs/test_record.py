"""run.json as a value: read and written it keeps its bytes, and what a later version added."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from ensemble.core.errors import DataError
from ensemble.core.files import json_text
from ensemble.runs.leaderboard import leaderboard
from ensemble.runs.record import KINDS, Kind, Parent, RunRecord
from ensemble.runs.run import Run, all_runs

FIXTURE = Path(__file__).parents[1] / "fixtures" / "runs-schema1"
RUNS = all_runs(FIXTURE)


@pytest.mark.parametrize("run", RUNS, ids=[run.id for run in RUNS])
def test_a_record_is_written_as_it_was_read(run: Run, tmp_path: Path) -> None:
    run.record.write(tmp_path)
    assert (tmp_path / "run.json").read_bytes() == (run.path / "run.json").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_keys_are_carried_along_in_their_order(kind: str, tmp_path: Path) -> None:
    values = {
        "later": {"b": 1, "a": [None, 0.1]},
        "schema": 1,
        "kind": kind,
        "data": {"x": 1, "tests": {}},
        "z": "é",
    }
    (tmp_path / "run.json").write_text(json_text(values), encoding="utf-8")
    record = RunRecord.read(tmp_path)
    record.write(tmp_path)
    assert (tmp_path / "run.json").read_text(encoding="utf-8") == json_text(values)
    changed = record.updated(kind=Kind.REFIT, seconds=2.0)
    assert list(changed.values) == [*values, "seconds"]
    assert record.values == values and changed.kind is Kind.REFIT
    assert changed.without("z", "seconds").values == {
        **{key: values[key] for key in values if key != "z"},
        "kind": "refit",
    }


def test_values_of_the_committed_runs() -> None:
    records = {run.record.name: run.record for run in RUNS if run.kind is not Kind.ENSEMBLE}
    assert {record.kind for record in records.values()} == set(Kind) - {Kind.ENSEMBLE}
    fold = records["alexnet-fold0"]
    assert (fold.fold, fold.arch, fold.data.form, fold.pipeline) == (0, "alexnet", "folders", 1)
    assert fold.classes == ("cat", "dog", "NA")
    assert (fold.auto.lr, fold.auto.pieces, fold.auto.batch_size(64), fold.auto.format) == ({0: 0.002}, 1, 64, None)
    assert fold.normalisation == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert fold.weights_sha256 == "004784485fb14fc80306422c9c5df61506dae9c485509f8964f36477d5d96531"
    folds = records["alexnet"]
    assert folds.weights_sha256 is None
    assert [parent.id.rpartition("-")[0] for parent in folds.parents] == ["alexnet-fold0", "alexnet-fold1"]
    assert set(folds.parents[0].sha256) == {"valid", "test"}
    assert records["elsewhere"].imported == {"valid": "valid.csv", "test": "test.csv"}
    assert records["elsewhere"].costs == dict.fromkeys(("parameters", "bytes", "seconds", "seconds_per_image"))


def test_what_is_missing_is_empty(tmp_path: Path) -> None:
    empty = RunRecord({"schema": 1})
    assert empty.kind is Kind.MEMBER and empty.data.fingerprint == "" and empty.data.tests == {}
    assert (empty.parents, empty.classes, empty.chosen_on_valid, empty.times) == ((), (), (), ("", ""))
    assert (empty.initial_weights, empty.auto.lr, empty.shown, empty.leaks) == (None, {}, {}, {})
    assert RunRecord({"schema": 1, "parents": [{}]}).parents == (Parent("None", {}),)
    with pytest.raises(DataError, match="mean and std"):
        _ = empty.normalisation


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([], "no schema"),
        ({"schema": "1"}, "no schema"),
        ({"schema": 2}, "of schema 2, this version reads up to 1"),
        ({"schema": 1, "data": []}, "data"),
        ({"schema": 1, "data": {"tests": []}}, "data"),
        ({"schema": 1, "classes": [1]}, "classes"),
        ({"schema": 1, "parents": ["a"]}, "parents"),
    ],
)
def test_a_record_that_is_none_is_refused(values: Any, problem: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(values))
    with pytest.raises(DataError, match=problem):
        RunRecord.read(tmp_path)


@pytest.mark.parametrize("kind", [*KINDS, "of-2030", ""])
def test_a_kind_is_its_name(kind: str) -> None:
    value = Kind(kind)
    assert value == kind and hash(value) == hash(kind) and {kind: 1}[value] == 1
    assert (str(value), f"{value}", f"{value:>9}", repr(value)) == (kind, kind, f"{kind:>9}", repr(kind))
    assert json.dumps({"kind": value}) == json.dumps({"kind": kind})
    assert json.dumps([value], indent=1) == json.dumps([kind], indent=1)
    for twin in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert twin == value and isinstance(twin, Kind)


def test_a_kind_of_a_later_version_is_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / "new-00000001").mkdir()
    (tmp_path / "new-00000001" / "run.json").write_text('{"schema": 1, "kind": "of-2030"}')
    (run,) = all_runs(tmp_path)
    assert run.kind not in set(Kind) and not run.is_ensemble and not run.is_import and not run.pools_folds
    assert [row.kind for row in leaderboard([run])] == ["of-2030"]
    with pytest.raises(ValueError, match="1 is not a valid Kind"):
        Kind(1)
