"""Runs of schema 1, as the first release wrote them, are listed, combined and submitted byte for byte."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.fake_runs import contents
from helpers.repository import SCHEMA1, SCHEMA1_EXPECTED

from ensemble.cli.ls import command as ls
from ensemble.cli.terminal import Settings
from ensemble.combine.candidates import candidates
from ensemble.combine.ensembler import combine
from ensemble.combine.record import read_ensemble
from ensemble.core.errors import DataError
from ensemble.core.files import read_json, write_json
from ensemble.core.predictions import read_arrays
from ensemble.recipe.file import read_recipe_file
from ensemble.recipe.schema import SubmitSpec
from ensemble.runs.origin import named_run
from ensemble.runs.record import KINDS
from ensemble.runs.run import Run, all_runs
from ensemble.submit.submission import submit

SPECS = {
    "kaggle.csv": SubmitSpec(),
    "kaggle-probs.csv": SubmitSpec(format="kaggle-probs"),
    "positive.csv": SubmitSpec(format="kaggle-probs", positive="NA", label_column="target"),
    "codabench.zip": SubmitSpec(
        format="codabench", inner_name="answer.tsv", separator="\t", header=False, label_as="index"
    ),
}


@pytest.fixture
def runs(tmp_path):
    return Path(shutil.copytree(SCHEMA1, tmp_path / "runs"))


def only(runs: Path, kind: str) -> Run:
    (result,) = [run for run in all_runs(runs) if run.kind == kind and not run.is_fold][:1]
    return result


def recombined(runs: Path) -> Run:
    """The committed ensemble once more, under another name."""
    members = read_ensemble(only(runs, "ensemble")).members
    return combine([named_run(runs, item) for item in members], folder=runs, threshold=0.5, name="again").run


def listing(runs: Path) -> str:
    result = CliRunner().invoke(ls, ["--all"], obj=Settings(runs, False), catch_exceptions=False)
    return result.stdout


def test_schema1_has_a_run_of_each_kind():
    assert {run.kind for run in all_runs(SCHEMA1)} == set(KINDS)
    assert all(run.complete and not run.failed for run in all_runs(SCHEMA1))


def test_schema1_is_listed():
    assert listing(SCHEMA1) == (SCHEMA1_EXPECTED / "ls.txt").read_text(encoding="utf-8")


def test_schema1_is_combined(runs):
    created = recombined(runs)
    expected = SCHEMA1_EXPECTED / "again"
    assert created.id == (SCHEMA1_EXPECTED / "id.txt").read_text().strip()
    assert (created.path / "ensemble.yaml").read_bytes() == (expected / "ensemble.yaml").read_bytes()
    for name in ("valid.npz", "test.npz", "ensemble.npz"):
        ours, theirs = (read_arrays(folder / name, name) for folder in (created.path, expected))
        assert ours.keys() == theirs.keys()
        for key in theirs:
            assert ours[key].dtype == theirs[key].dtype
            assert ours[key].tobytes() == theirs[key].tobytes()
    facts, written = read_json(created.path / "run.json"), read_json(expected / "run.json")
    assert {key: facts[key] for key in written if key not in ("created", "versions")} == {
        key: written[key] for key in written if key not in ("created", "versions")
    }
    scores, then = flat(read_json(created.path / "metrics.json")), flat(read_json(expected / "metrics.json"))
    # keys are only ever added
    assert {key: scores.get(key) for key in then} == pytest.approx(then)


def flat(value, prefix=""):
    if not isinstance(value, dict):
        return {prefix: value}
    return {key: leaf for name, inner in value.items() for key, leaf in flat(inner, f"{prefix}/{name}").items()}


def test_schema1_ensemble_is_repeated(runs):
    ensemble = only(runs, "ensemble")
    before = contents(runs)
    members = [named_run(runs, item) for item in read_ensemble(ensemble).members]
    assert combine(members, folder=runs, threshold=0.5).run.id == ensemble.id
    after = contents(runs)
    facts, then = (json.loads(files.pop(f"{ensemble.id}/run.json")) for files in (after, before))
    assert {key: value for key, value in facts.items() if key != "combined"} == then
    changed = {name for name in before if after[name] != before[name]}
    assert changed <= {f"{ensemble.id}/metrics.json"}  # its last digits may differ, see above
    assert set(after) - set(before) <= {f"{ensemble.id}/report.json"}
    assert set(before) <= set(after)


@pytest.mark.parametrize("name", SPECS)
def test_schema1_is_submitted(tmp_path, name):
    written = submit(only(SCHEMA1, "ensemble"), SPECS[name], out=tmp_path / name)
    assert written.path.read_bytes() == (SCHEMA1_EXPECTED / name).read_bytes()
    assert written.sidecar.read_bytes() == (SCHEMA1_EXPECTED / f"{name}.json").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_schema1_runs_of_every_kind_are_submitted(tmp_path, kind):
    assert submit(only(SCHEMA1, kind), SubmitSpec(), out=tmp_path / "out.csv").facts["rows"] == 12


def test_schema1_candidates_are_of_one_data_set():
    member, folds = only(SCHEMA1, "member"), only(SCHEMA1, "folds")
    assert {run.kind for run in candidates(SCHEMA1, member.fingerprint)} == {"member", "import"}
    assert [run.id for run in candidates(SCHEMA1, folds.fingerprint)] == [folds.id]


def test_schema1_refits_predict(runs):
    refit = only(runs, "refit")
    parent = named_run(runs, refit.record.values["parents"][0]["id"])
    created = combine([parent], folder=runs, refits=True).run
    assert created.predictions("test").probs.tobytes() == refit.predictions("test").probs.tobytes()


def test_schema1_recipes_are_read():
    for run in all_runs(SCHEMA1):
        if (run.path / "recipe.yaml").is_file():
            assert read_recipe_file(run.path / "recipe.yaml").members[0].arch == run.record.values["arch"]


def test_unknown_keys_are_kept_and_a_newer_schema_is_refused(runs):
    run = only(runs, "member")
    facts = read_json(run.path / "run.json")
    write_json(run.path / "run.json", {**facts, "from_the_future": [1]})
    assert only(runs, "member").predictions("valid").ids[0] == "v/0000"
    write_json(run.path / "run.json", {**facts, "schema": 2})
    with pytest.raises(DataError, match="is of schema 2, this version reads up to 1; upgrade ensemble"):
        combine([Run(run.path)], folder=runs)
    assert "unreadable" in listing(runs)


@pytest.mark.parametrize("name", ["zoo-plain", "zoo-refits"])
def test_schema1_odd_names_groups_and_refits(runs, name):
    before = named_run(runs, name)
    kept = {path.name: path.read_bytes() for path in before.path.iterdir()}
    members = [named_run(runs, first) for first in read_ensemble(before).members]
    refits = name == "zoo-refits"
    created = combine(members, folder=runs, per_arch=2, calibrate=True, refits=refits, name=name).run
    assert created.id == before.id
    assert created.splits() == ["valid", "test", "test-night"]
    for split in created.splits():
        first, other = created.predictions(split), Run(SCHEMA1 / created.id).predictions(split)
        assert (first.ids.tolist(), first.classes.tolist()) == (other.ids.tolist(), other.classes.tolist())
        assert first.probs == pytest.approx(other.probs, abs=1e-6)  # the temperature is a logarithm's
    assert created.predictions("valid").groups[0] == "caf\u00e9 0"
    assert (created.predictions("valid").targets == -1).sum() == 2
    assert {"valid.npz", "test.npz", "test-night.npz"} <= kept.keys()


@pytest.mark.parametrize("split", ["test", "test-night"])
def test_schema1_odd_names_are_submitted(tmp_path, split):
    out = submit(named_run(SCHEMA1, "zoo-plain"), SubmitSpec(), split=split, out=tmp_path / f"zoo-{split}.csv").path
    assert out.read_bytes() == (SCHEMA1_EXPECTED / f"zoo-{split}.csv").read_bytes()


def write_expected() -> None:
    """Writes what this version makes of the fixture: `PYTHONPATH=tests python tests/runs/test_schema1.py`."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        runs = Path(shutil.copytree(SCHEMA1, Path(folder) / "runs"))
        created = recombined(runs)
        shutil.rmtree(SCHEMA1_EXPECTED, ignore_errors=True)
        shutil.copytree(created.path, SCHEMA1_EXPECTED / "again")
        (SCHEMA1_EXPECTED / "id.txt").write_text(created.id + "\n")
    (SCHEMA1_EXPECTED / "ls.txt").write_text(listing(SCHEMA1), encoding="utf-8")
    for name, spec in SPECS.items():
        submit(only(SCHEMA1, "ensemble"), spec, out=SCHEMA1_EXPECTED / name)
    for split in ("test", "test-night"):
        written = submit(
            named_run(SCHEMA1, "zoo-plain"), SubmitSpec(), split=split, out=SCHEMA1_EXPECTED / f"zoo-{split}.csv"
        )
        written.sidecar.unlink()
    assert zipfile.is_zipfile(SCHEMA1_EXPECTED / "codabench.zip")


if __name__ == "__main__":
    write_expected()
