"""The runs to combine: all candidates of a data set, or named runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from ensemble.combine.record import read_ensemble
from ensemble.core.errors import DataError, MismatchedRuns, first_few, one_line
from ensemble.runs.origin import named_run, refuse_unfinished, resume_command
from ensemble.runs.record import Kind
from ensemble.runs.run import Run, all_runs

CANDIDATE_KINDS = (Kind.MEMBER, Kind.FOLDS, Kind.IMPORT)


def candidates(folder: Path, fingerprint: str) -> list[Run]:
    """The complete members, folds runs and imports of the data set with this fingerprint, by id.

    Ensembles, refits, students and the children of a folds run are included only by name.
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
    """The runs with these names. Raises DataError if one does not exist, is incomplete, or is named twice."""
    runs = [named_run(folder, name) for name in names]
    ids = [run.id for run in runs]
    twice = sorted({run_id for run_id in ids if ids.count(run_id) > 1})
    if twice:
        raise DataError(f"named twice: {first_few(twice)}; name each run once")
    return runs


def leaves(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """The members of `runs` sorted by id, without duplicates, and notes on the duplicates.

    An ensemble is replaced by its members, which are selected and weighted again. Raises DataError for runs that
    failed or have no validation predictions, MismatchedRuns for runs of different data sets.
    """
    by_id: dict[str, Run] = {}
    notes = []
    for run in runs:
        for leaf in _expanded(run):
            if leaf.id in by_id:
                notes.append(f"{leaf.id} was reached twice and counts once")
            by_id[leaf.id] = leaf
    ordered = [by_id[run_id] for run_id in sorted(by_id)]
    for run in ordered:
        _refuse_unusable(run)
    _refuse_other_data(ordered)
    return ordered, notes


def _expanded(run: Run) -> list[Run]:
    if not run.is_ensemble:
        return [run]
    members = [named_run(run.path.parent, run_id) for run_id in read_ensemble(run).members]
    return [leaf for member in members for leaf in _expanded(member)]


def _refuse_unusable(run: Run) -> None:
    refuse_unfinished(run, "leave it out")
    if not run.has("valid"):
        hint = "; name its parent and add --refits" if run.kind is Kind.REFIT else ""
        raise DataError(f"{run.id} is a {run.kind} without validation predictions{hint}")


def _refuse_other_data(runs: Sequence[Run]) -> None:
    # an import may be older than every run of its data set; its ids and targets are compared instead
    trained = [run for run in runs if not run.is_import and run.fingerprint]
    for run in trained[1:]:
        if run.fingerprint != trained[0].fingerprint:
            raise MismatchedRuns(
                f"{run.id} and {trained[0].id} are of different data sets ({run.fingerprint[:8]} and"
                f" {trained[0].fingerprint[:8]}); name the runs of one"
            )


def newest_ensemble(folder: Path, fingerprint: str, name: str = "this data set") -> Run:
    """The most recent ensemble of the data set called `name`. Raises DataError if none is complete."""
    runs = [run for run in all_runs(folder) if run.complete and run.fingerprint == fingerprint]
    ensembles = [run for run in runs if run.is_ensemble]
    if not runs:
        raise DataError(f"no complete run of {name} in {one_line(folder)}; type `ens train`, or name a run")
    if not ensembles:
        raise DataError(f"no complete ensemble of {name} in {one_line(folder)}; type `ens combine` first")
    return max(ensembles, key=recency_key)


def recency_key(run: Run) -> tuple[float, int, str]:
    """Sort key: the time of combining in run.json, otherwise the time of creation.

    The file's modification time, which copying changes, breaks ties and replaces missing times.
    """
    return _recorded_time(run), (run.path / "metrics.json").stat().st_mtime_ns, run.id


def _recorded_time(run: Run) -> float:
    """Seconds since 1970; -inf without a recorded time. `created` stays when an ensemble is combined again."""
    for time in run.record.times:
        with suppress(ValueError):
            return datetime.fromisoformat(time).timestamp()
    return -math.inf


def refit_of(member: Run, runs: Sequence[Run]) -> Run:
    """The newest complete refit of `member`; an import cannot be refitted and is returned itself.

    Raises DataError if there is no refit.
    """
    refits = [
        run
        for run in runs
        if run.kind is Kind.REFIT
        and run.complete
        and not run.failed
        and any(parent.id == member.id for parent in run.record.parents)
    ]
    if refits:
        return max(refits, key=lambda run: (run.record.created, run.id))
    if member.is_import:
        return member
    raise DataError(f"{member.id} has no refit; type {resume_command(member, ['--full'])}, or leave out --refits")
