"""What commands print reaches its reader, whatever the encoding and whichever stream is closed."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.fake_runs import predictions, run
from helpers.imported import as_csv
from helpers.shell import ENS, shell


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A folder with a run whose name no Western code page has."""
    run(tmp_path / "runs", "сеть", {"valid": predictions(30, 1)})
    return tmp_path


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_pipe_gets_utf8(named: Path, encoding: str) -> None:
    done = shell(f"{ENS} ls", named, PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and "сеть" in done.stdout.decode(), done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_stream_is_no_error(named: Path, closed: str) -> None:
    assert shell(f"{ENS} ls {closed}", named).returncode == 0
    assert shell(f"{ENS} show nothing {closed}", named).returncode == 2


def test_tilde_after_an_equals_sign_is_the_home_folder(named: Path) -> None:
    done = shell(f"{ENS} --runs=~/runs ls", named, HOME=str(named))
    assert "сеть" in done.stdout.decode()
    as_csv(named / "v.csv", predictions(30, 2), target="label")
    done = shell(f"{ENS} import x --valid=~/v.csv", named, HOME=str(named))
    assert done.returncode == 0, done.stderr
