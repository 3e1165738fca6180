"""Which runs are combined: the candidates of a data set, or those that were named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from ensemble.combine.record import read_ensemble
from ensemble.core.errors import DataError, MismatchedRuns, first_few, one_line
from ensemble.runs.origin import go_on, named_run, refuse_unfinished
from ensemble.runs.run import Run, all_runs

CANDIDATE_KINDS = ("member", "folds", "import")


def candidates(folder: Path, fingerprint: str) -> list[Run]:
    """The complete members, folds runs and imports of the data set with this fingerprint, by id.

    Ensembles, refits, students and the children of a folds run join only when named.
    """
    return [
        run
        for run in all_runs(folder)
        if run.complete
        and not run.failed
        and run.kind in CANDIDATE_KINDS
        and not run.is_fold
        and run.fingerprint == fingerprint
    ]


def named(folder: Path, names: Sequence[str]) -> list[Run]:
    """The runs with these names. Raises DataError when one is not there, not complete, or named twice."""
    runs = [named_run(folder, name) for name in names]
    ids = [run.id for run in runs]
    twice = sorted({one for one in ids if ids.count(one) > 1})
    if twice:
        raise DataError(f"named twice: {first_few(twice)}; name each run once")
    return runs


def leaves(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """The members behind `runs` by id, each once, and notes on those that were reached twice.

    An ensemble stands for its members, which are chosen and weighed anew. Raises DataError for runs that have
    no validation predictions or failed, MismatchedRuns for runs of different data sets.
    """
    found: dict[str, Run] = {}
    notes = []
    for run in runs:
        for leaf in _expanded(run):
            if leaf.id in found:
                notes.append(f"{leaf.id} was reached twice and counts once")
            found[leaf.id] = leaf
    ordered = [found[one] for one in sorted(found)]
    for run in ordered:
        _refuse_unusable(run)
    _refuse_other_data(ordered)
    return ordered, notes


def _expanded(run: Run) -> list[Run]:
    if run.kind != "ensemble":
        return [run]
    members = [named_run(run.path.parent, one) for one in read_ensemble(run).members]
    return [leaf for member in members for leaf in _expanded(member)]


def _refuse_unusable(run: Run) -> None:
    refuse_unfinished(run, "leave it out")
    if not run.has("valid"):
        hint = "; name its parent and add --refits" if run.kind == "refit" else ""
        raise DataError(f"{run.id} is a {run.kind} without validation predictions{hint}")


def _refuse_other_data(runs: Sequence[Run]) -> None:
    # an import may have been made before any run of its data set; its ids and targets are compared instead
    trained = [run for run in runs if run.kind != "import" and run.fingerprint]
    for run in trained[1:]:
        if run.fingerprint != trained[0].fingerprint:
            raise MismatchedRuns(
                f"{run.id} and {trained[0].id} are of different data sets ({run.fingerprint[:8]} and"
                f" {trained[0].fingerprint[:8]}); name the runs of one"
            )


def newest_ensemble(folder: Path, fingerprint: str, name: str = "this data set") -> Run:
    """The ensemble of the data set called `name` that was made last. Raises DataError when none is complete."""
    runs = [run for run in all_runs(folder) if run.complete and run.fingerprint == fingerprint]
    found = [run for run in runs if run.kind == "ensemble"]
    if not runs:
        raise DataError(f"no complete run of {name} in {one_line(folder)}; type `ens train`, or name a run")
    if not found:
        raise DataError(f"no complete ensemble of {name} in {one_line(folder)}; type `ens combine` first")
    return max(found, key=last_made)


def last_made(run: Run) -> tuple[float, int, str]:
    """Sorts by the time of combining that run.json says, else of making.

    The file's own time, which copying changes, is asked only where these say nothing or are the same.
    """
    return _said_time(run), (run.path / "metrics.json").stat().st_mtime_ns, run.id


def _said_time(run: Run) -> float:
    """Seconds since 1970; an ensemble that is combined again keeps its `created`. Before all where none is said."""
    for key in ("combined", "created"):
        with suppress(ValueError):
            return datetime.fromisoformat(str(run.facts.get(key, ""))).timestamp()
    return -math.inf


def refit_of(member: Run, runs: Sequence[Run]) -> Run:
    """The newest complete refit of `member`; an import, which nobody can refit, stands for itself.

    Raises DataError when there is none.
    """
    refits = [
        run for run in runs if run.kind == "refit" and run.complete and not run.failed and _names(run, member.id)
    ]
    if refits:
        return max(refits, key=lambda run: (str(run.facts.get("created", "")), run.id))
    if member.kind == "import":
        return member
    raise DataError(f"{member.id} has no refit; type {go_on(member, ['--full'])}, or leave out --refits")


def _names(run: Run, parent: str) -> bool:
    entries: Any = run.facts.get("parents") or []
    return any((entry.get("id") if isinstance(entry, dict) else entry) == parent for entry in entries)
