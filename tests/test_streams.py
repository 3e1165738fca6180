"""What commands print reaches its reader, whatever the encoding and whichever stream is closed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.fake_runs import run
from test_imports import as_csv, predictions

ENS = f"{sys.executable} -m ensemble"


def shell(command: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, shell=True, cwd=folder, capture_output=True, env={**os.environ, **environ})


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A folder with a run whose name no Western code page has."""
    run(tmp_path / "runs", "сеть", {"valid": predictions(30, 1)})
    return tmp_path


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_pipe_gets_utf8(named: Path, encoding: str) -> None:
    done = shell(f"{ENS} ls", named, PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and "сеть" in done.stdout.decode(), done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_stream_is_read_by_nobody(named: Path, closed: str) -> None:
    assert shell(f"{ENS} ls {closed}", named).returncode == 0
    assert shell(f"{ENS} show nothing {closed}", named).returncode == shell(f"{ENS} show nothing", named).returncode


def test_a_tilde_after_an_equals_sign_is_the_home_folder(named: Path) -> None:
    done = shell(f"{ENS} --runs=~/runs ls", named, HOME=str(named))
    assert "сеть" in done.stdout.decode()
    as_csv(named / "v.csv", predictions(30, 2), target="label")
    done = shell(f"{ENS} import x --valid=~/v.csv", named, HOME=str(named))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("names", "read"), [(["ens.yml"], "ens.yml"), (["ens.yml", "ens.yaml"], "ens.yaml")])
def test_a_recipe_may_be_called_yml(tmp_path: Path, names: list[str], read: str) -> None:
    for name in names:
        (tmp_path / name).write_text(f"members: [{{arch: customnet, name: from-{name[-4:].strip('.')}}}]\n")
    done = shell(f"{ENS} train --dry-run", tmp_path)
    assert f"from-{read[-4:].strip('.')}" in (done.stdout + done.stderr).decode()


def test_a_recipe_is_not_written_beside_one_that_it_would_replace(tmp_path: Path) -> None:
    (tmp_path / "ens.yml").write_text("members: [customnet]\n")
    done = shell(f"{ENS} init .", tmp_path)
    assert done.returncode == 2 and b"ens.yml is there already; type --force to write ens.yaml" in done.stderr
