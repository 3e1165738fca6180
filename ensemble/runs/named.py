"""Runs by what a person types: an id, the beginning of one, or a directory."""

from __future__ import annotations

import json
from pathlib import Path

from ensemble.errors import DataError
from ensemble.runs.commands import go_on
from ensemble.runs.run import Run, all_runs


def id_of(folder: Path, word: str) -> str:
    """The id in `word`, which may be the run's directory, as a shell completes it: `runs/resnet34-1a2b3c4d/`."""
    path = Path(word)
    in_folder = path.name and (path / "run.json").is_file() and path.resolve().parent == folder.resolve()
    return path.name if in_folder else word.rstrip("/\\") or word


def named_run(folder: Path, name: str) -> Run:
    """The complete run with this id or directory, or the only one whose id begins so. Raises DataError."""
    runs, name = all_runs(folder), id_of(folder, name)
    found = [run for run in runs if run.id == name] or [run for run in runs if run.id.startswith(name)]
    if len(found) != 1:
        listed = ", ".join(run.id for run in (found or runs)[:5]) or "none"
        raise DataError(
            f"{len(found)} runs in {folder} are called {json.dumps(name)}, one expected (there are: {listed});"
            " type `ens ls`"
        )
    refuse_unfinished(found[0], "name another run")
    return found[0]


def refuse_unfinished(run: Run, otherwise: str) -> None:
    """Raises DataError for a run that failed or is not complete, with what to type. otherwise: what else to do."""
    if run.failed:
        raise DataError(f"{run.id} failed; type {go_on(run, ['--retry'])}, or {otherwise}")
    if not run.complete:
        raise DataError(f"{run.id} is not complete; type {go_on(run)} to resume it, or {otherwise}")
