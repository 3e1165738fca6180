"""The leaderboard: every run with its scores and its cost, the best first. Imports no table library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ensemble.check.leaks import Leaks, known_leaks, merged
from ensemble.errors import DataError
from ensemble.runs.run import Run


@dataclass(frozen=True)
class Row:
    """One run. accuracy: on the validation rows, an ensemble's cross-fitted.  honest, low, high, metric: an
    ensemble's score and its 95 % interval.  apparent: its score on the rows it was fitted on.  None: unknown.

    status: complete, failed, unfinished, or unreadable.
    leaks: split -> {exact, near, group: how many of its images are in train too}; of an ensemble or an import those
    of its data.
    """

    id: str
    kind: str
    arch: str | None
    status: str
    accuracy: float | None = None
    metric: str | None = None
    honest: float | None = None
    low: float | None = None
    high: float | None = None
    apparent: float | None = None
    parameters: int | None = None
    bytes: int | None = None
    seconds: float | None = None
    seconds_per_image: float | None = None
    chosen_on_valid: tuple[str, ...] = ()
    fingerprint: str = ""
    is_fold: bool = False
    leaks: Leaks = field(default_factory=dict)


def leaderboard(runs: Sequence[Run]) -> list[Row]:
    """A row for each run: the complete by accuracy, ties by id, those without a score next, others last."""
    rows = _with_leaks_of_their_data([_row(run) for run in runs])
    return sorted(rows, key=lambda row: (row.status != "complete", -_known(row.accuracy), row.id))


def _with_leaks_of_their_data(rows: Sequence[Row]) -> list[Row]:
    """Ensembles and imports were never told what leaks; the members of the same data were."""
    told: dict[str, Leaks] = {}
    for row in rows:
        if row.kind in ("member", "refit") and not row.is_fold:
            told[row.fingerprint] = merged(told.get(row.fingerprint, {}), row.leaks)
    return [
        replace(row, leaks=merged(row.leaks, told.get(row.fingerprint, {})))
        if row.kind in ("ensemble", "import")
        else row
        for row in rows
    ]


def _known(value: float | None) -> float:
    return -math.inf if value is None else value


def _row(run: Run) -> Row:
    try:
        return _read(run)
    except (DataError, AttributeError, TypeError, ValueError):
        # one broken run must not hide the others; whoever uses it is told what is wrong with it
        return Row(run.id, "?", None, "unreadable")


def _read(run: Run) -> Row:
    facts, metrics = run.facts, run.metrics
    ensemble = run.kind == "ensemble"
    metric, honest = _headline(metrics.get("honest") or {})
    return Row(
        id=run.id,
        kind=run.kind,
        arch=facts.get("arch"),
        status=_status(run),
        accuracy=(metrics.get("valid") or {}).get("accuracy"),
        metric=metric,
        honest=honest.get("value"),
        low=honest.get("low"),
        high=honest.get("high"),
        apparent=(metrics.get("apparent") or {}).get(metric) if ensemble else None,
        parameters=facts.get("parameters"),
        bytes=facts.get("bytes"),
        seconds=facts.get("seconds"),
        seconds_per_image=facts.get("seconds_per_image"),
        chosen_on_valid=tuple(str(what) for what in facts.get("chosen_on_valid") or ()),
        fingerprint=run.fingerprint,
        is_fold=run.is_fold,
        leaks=_leaks(run),
    )


def _leaks(run: Run) -> Leaks:
    """What the run was told when it was trained, and what `ens check` has found since.

    Folds have divided train and valid anew, so that what the check says of valid is not true of them.
    """
    found = known_leaks(run.path.parent, run.fingerprint) if run.fingerprint else {}
    if run.pools_folds or run.is_fold:
        found = {split: counts for split, counts in found.items() if split != "valid"}
    return merged(dict(run.facts.get("leaks") or {}), found)


def _headline(honest: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any]]:
    """The first metric of `honest`: the one that was asked for."""
    return next(iter(honest.items()), (None, {}))


def _status(run: Run) -> str:
    if run.failed:
        return "failed"
    return "complete" if run.complete else "unfinished"
