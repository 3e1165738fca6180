"""Commands on runs on disk: exit codes, stdout and stderr, failures in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.fake_runs import DIGITS, contents, member, predictions, run

from ensemble.cli import run as ens
from ensemble.core.files import read_json, write_json
from ensemble.core.predictions import save


def made_before(run):
    """A run that is older than the others."""
    write_json(run.path / "run.json", {**read_json(run.path / "run.json"), "created": "2025-01-01T00:00:00+00:00"})


def test_combine_then_submit_with_no_other_argument(digit_runs, capsys):
    assert ens(["combine", "--threshold", "0.5"]) == 0
    out, err = capsys.readouterr()
    created = out.splitlines()[-1]
    assert created.startswith("ensemble-")
    assert out.startswith("member ")
    assert {"apparent", "honest"} <= set(out.split())
    assert ens(["submit", "--format", "kaggle"]) == 0
    out, err = capsys.readouterr()
    assert out == f"submissions/{created}.csv\n".replace("/", os.sep)
    assert f"submitting {created}, the newest ensemble" in err
    assert ens(["ls"]) == 0
    assert created in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--threshold", "nan"], 2, "not a finite number"),
        (["--threshold", "inf"], 2, "not a finite number"),
        (["--threshold", "1.5"], 2, "from 0 to 1"),
        (["--per-arch", "-1"], 2, "per-arch"),
        (["--rule", "acuracy"], 2, "did you mean 'accuracy'"),
        (["--metric", "brierr"], 2, "did you mean 'brier'"),
        (["--name", "a/b"], 2, "cannot name a folder"),
        (["--threshold", "0.99", "--per-arch", "0"], 4, "net2-00000002 0."),
        (["resnet"], 3, "0 runs"),
        (["net1", "net1"], 3, "named twice"),
        (["net1", "other"], 3, "different data sets"),
        (["--refits"], 3, "has no refit"),
    ],
)
def test_combine_fails_in_one_line_and_writes_nothing(digit_runs, capsys, arguments, code, message):
    made_before(member(digit_runs / "runs", "other-1", seed=5))
    before = contents(digit_runs)
    assert ens(["combine", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if not line.startswith("data: ")] == [err.splitlines()[-1]]
    assert message in err
    assert contents(digit_runs) == before


def test_options_override_the_recipe(digit_runs, capsys):
    (digit_runs / "ens.yaml").write_text(
        "data: digits\ncombine:\n  threshold: 0.99\n  per_arch: 0\n  name: mine\n"
        "submit:\n  format: kaggle-probs\n  out: out.csv\n  id_column: row\n"
    )
    assert ens(["combine"]) == 4
    assert ens(["combine", "--threshold", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("mine-")
    assert ens(["submit"]) == 0
    assert (digit_runs / "out.csv").read_text().startswith("row,ant,bee,cat\n")
    assert ens(["submit", "--format", "codabench"]) == 2


def test_submit_without_an_ensemble(digit_runs, capsys):
    assert ens(["submit"]) == 3
    assert "type `ens combine` first" in capsys.readouterr().err
    assert ens(["submit", "net0"]) == 0


def test_import_then_combine(digit_runs, capsys):
    valid = save(digit_runs / "v.npz", predictions(60, 8, labelled=False))
    test = save(digit_runs / "t.npz", predictions(20, 9, prefix="t", labelled=False))
    arguments = ["import", "swin", "--valid", str(valid), "--test", str(test), "--arch", "swin_t"]
    assert ens(arguments) == 0
    out, err = capsys.readouterr()
    assert out.startswith("swin-")
    assert "net0-00000000" in err
    assert ens(["combine"]) == 0
    assert out.strip() in capsys.readouterr().out
    assert ens([*arguments, "--targets-from", "nobody"]) == 3
    assert ens(["import", "swin"]) == 2


def test_full_disk_leaves_the_run_incomplete(digit_runs, capsys, monkeypatch):
    real = Path.replace

    def full(self, target):
        if target.name == "metrics.json":
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", full)
    assert ens(["combine"]) == 1
    assert "No space left on device" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(digit_runs)
    assert ens(["ls"]) == 0
    assert "unfinished" in capsys.readouterr().out
    assert ens(["combine"]) == 0


def test_ls_of_nothing_failures_and_folds(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ens(["ls"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "no runs in runs" in err
    (member(tmp_path / "runs", "bad-1", seed=1).path / "failed.json").write_text("{}")
    (member(tmp_path / "runs", "broken-1", seed=1).path / "run.json").write_text("{")
    run(tmp_path / "runs", "fold-1", {"valid": predictions(9, 1)}, fold=0)
    assert ens(["ls"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == ["run", "bad-1", "broken-1"]
    assert "failed" in out and "unreadable" in out
    assert ens(["ls", "--all"]) == 0
    assert "fold-1" in capsys.readouterr().out


def test_run_in_use_is_locked(digit_runs, capsys):
    from ensemble.runs.run import locked

    assert ens(["combine"]) == 0
    created = capsys.readouterr().out.splitlines()[-1]
    with locked(digit_runs / "runs", created):
        assert ens(["combine"]) == 5
    assert created in capsys.readouterr().err


@pytest.mark.parametrize("complete", [True, False])
def test_failed_run_says_how_to_go_on(digit_runs, capsys, complete):
    bad = member(digit_runs / "runs", "bad-1", seed=1, data=DIGITS)
    (bad.path / "failed.json").write_text("{}")
    if not complete:
        (bad.path / "metrics.json").unlink()
    for command in (["combine", "bad-1"], ["submit", "bad-1"]):
        assert ens(command) == 3
        assert "--retry" in capsys.readouterr().err


@pytest.mark.parametrize("facts", [{"data": None}, {"classes": 5}, {"classes": [1]}, {"data": []}, {"parents": 3}])
def test_run_json_of_another_shape_is_one_line(digit_runs, capsys, facts):
    path = digit_runs / "runs" / "net0-00000000" / "run.json"
    write_json(path, {**read_json(path), **facts})
    assert ens(["combine", "net0", "net1"]) == 3
    err = capsys.readouterr().err
    assert "net0-00000000" in err and "run.json" in err and len(err.splitlines()) == 1
    assert ens(["ls"]) == 0
