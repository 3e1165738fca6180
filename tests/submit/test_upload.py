"""`ens submit --to kaggle:...`: the command is printed, and run with --yes only."""

from __future__ import annotations

import json
import os
import shlex
import stat
import sys
from pathlib import Path

import pytest
from helpers.fake_runs import predictions, run

from ensemble.cli import run as ens
from ensemble.runs.run import Run


@pytest.fixture
def kaggle(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that writes down what it was told; FAILS makes it fail."""
    folder = here / "bin"
    folder.mkdir()
    program = folder / "kaggle"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "json.dump(sys.argv[1:], open('told.json', 'w'))\n"
        "print('100%|####| 1.0k/1.0k')\n"
        "if os.environ.get('FAILS'): print('403 - Forbidden - accept the rules', file=sys.stderr); sys.exit(3)\n"
        "print('Successfully submitted to Digits')\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return here / "told.json"


def test_upload_command_is_printed_and_not_run(
    two_networks: Run, kaggle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ens(["submit", "--upload", "kaggle:digit-recognizer", two_networks.id, "--out", "my file;rm.csv"]) == 0
    path, line = capsys.readouterr().out.splitlines()
    assert path == "my file;rm.csv"
    words = shlex.split(line)
    assert words[:7] == ["kaggle", "competitions", "submit", "-c", "digit-recognizer", "-f", "my file;rm.csv"]
    assert words[7] == "-m" and len(words) == 9
    honest = two_networks.metrics["honest"]["accuracy"]["value"]
    assert two_networks.id in words[8] and f"accuracy {honest:.4f}" in words[8]
    assert not kaggle.exists()


def test_upload_with_yes_is_run_once(two_networks: Run, kaggle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ens(["submit", "--upload", "kaggle:digits", "--yes", two_networks.id, "--out", "-odd.csv"]) == 0
    out, err = capsys.readouterr()
    reported = json.loads(kaggle.read_text())
    assert ["kaggle", *reported] == shlex.split(out.splitlines()[-1])
    assert reported[reported.index("-f") + 1] == "./-odd.csv"  # no option of kaggle's
    assert "Successfully submitted" in err


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_upload_failure_is_reported(
    two_networks: Run,
    kaggle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    unbuffered: str,
) -> None:
    """The progress bar on stdout may come after the error on stderr."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    monkeypatch.setenv("FAILS", "1")
    assert ens(["submit", "--upload", "kaggle:digits", "--yes", two_networks.id]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ens:")]
    assert "code 3" in line and "403 - Forbidden" in line


def test_upload_without_kaggle_is_printed(
    two_networks: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert ens(["submit", "--upload", "kaggle:digits", two_networks.id]) == 0
    assert "kaggle competitions submit" in capsys.readouterr().out
    assert ens(["submit", "--upload", "kaggle:digits", "--yes", two_networks.id, "--out", "later.csv"]) == 1
    assert "pip install kaggle" in capsys.readouterr().err
    assert not Path("later.csv").exists()


@pytest.mark.parametrize("place", ["digits", "kaggle:", "kaggle:-c", "kaggle:a b", "kaggle:$(x)", "codabench:1"])
def test_upload_refuses_other_places(two_networks: Run, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ens(["submit", "--upload", place, two_networks.id]) == 2
    assert "kaggle:COMPETITION expected" in capsys.readouterr().err
    assert not Path("submissions").exists()


def test_upload_yes_needs_a_place(two_networks: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert ens(["submit", "--yes", two_networks.id]) == 2


def test_upload_message_of_a_member_without_a_score(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(Path("runs"), "net-1", {"test": predictions(5, 1, labelled=False)})
    assert ens(["submit", "--upload", "kaggle:x", "net-1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["upload"]["run"] is False
    assert result["upload"]["command"][-1] == "net-1: no labelled validation rows"
