"""Headline score of a run, with an interval, and the leaderboard of all runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ensemble.core.errors import DataError
from ensemble.core.estimate import Estimate
from ensemble.core.files import without_nan
from ensemble.data.leaks import Leaks, known_leaks, merged
from ensemble.metrics import find
from ensemble.runs.origin import named_run
from ensemble.runs.record import Kind
from ensemble.runs.run import Run
from ensemble.stats.intervals import interval

NOT_MEDICAL = (
    "This is not a medical device.",
    "It is for research and teaching. It must not be used to diagnose, treat or prevent a disease, or to decide"
    " about a person's care. Whoever is worried about their health sees a doctor, whatever this model says.",
)
"""First sentence of the disclaimer, shown in bold, and the rest."""

LIMITS = (
    "The score is of images like the validation rows: from the same source, chosen in the same way. Images of"
    " anything else are given one of the classes all the same, perhaps with great confidence. How it does for"
    " groups of people or kinds of cameras that the rows do not name is not known."
)


@dataclass(frozen=True, kw_only=True)
class Headline(Estimate):
    """A score on validation rows. rows: their number.  origin: whose score it is, if not the run's own."""

    metric: str
    rows: int
    origin: str = ""

    def __str__(self) -> str:
        origin = self.origin and f", {self.origin}"
        return f"{self.metric} {super().__str__()} on {self.rows} validation rows{origin}"

    def facts(self) -> dict[str, Any]:
        """Plain values for JSON."""
        score = {"metric": self.metric, "value": self.value, "low": self.low, "high": self.high}
        return {**score, "rows": self.rows, "of": self.origin}

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Headline:
        """From its `facts`. Raises KeyError for anything else."""
        bounds = (facts["value"], facts["low"], facts["high"])
        return cls(*bounds, metric=facts["metric"], rows=facts["rows"], origin=facts.get("of", ""))


def headline(run: Run) -> Headline | None:
    """An ensemble's honest score, or a member's accuracy; None if no validation row has a label.

    A refit has no validation rows, so it gets the score of the member that it replaces, whose name `of` gives.
    """
    honest = run.metrics.get("honest")
    if honest:
        metric, score = next(iter(honest.items()))
        rows, of = run.metrics["valid"]["n"], run.metrics.get("score_of", "")
        estimate = (score["value"], score["low"], score["high"])
        return Headline(*estimate, metric=metric, rows=rows, origin=of and f"of {of}")
    if not run.has("valid"):
        parents = run.record.parents
        if run.kind is not Kind.REFIT or not parents:
            return None
        member_score = headline(named_run(run.path.parent, parents[0].id))
        return member_score and replace(member_score, origin=f"of {parents[0].id}, before the refit")
    rows = run.predictions("valid")
    has_label = rows.labelled
    if rows.targets is None or not has_label.any():
        return None
    probs, targets = rows.probs[has_label], rows.targets[has_label]
    metric = find("accuracy", rows.classes.tolist())
    low, high = without_nan(
        interval(metric, [probs], targets, None if rows.groups is None else rows.groups[has_label])
    )
    of = ""
    if run.kind is Kind.STUDENT:
        of = "flattered by its soft labels" + (", of its folds" if run.pools_folds else "")
    return Headline(float(metric(probs, targets)), low, high, metric="accuracy", rows=len(targets), origin=of)


@dataclass(frozen=True)
class Row:
    """One run; None for unknown values. accuracy: on the validation rows, cross-fitted for an ensemble.

    metric, honest, low, high: an ensemble's honest score with its 95 % interval.  apparent: the same score on the
    rows that it was fitted on.  status: complete, failed, unfinished or unreadable.
    leaks: split -> {exact, near, group: number of its images that are in train too}; for an ensemble or an import,
    those of its data set.
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
    """One row per run: complete runs by accuracy (ties by id, without a score last), then the others."""
    rows = _with_data_leaks([_row(run) for run in runs])
    return sorted(rows, key=lambda row: (row.status != "complete", -_or_lowest(row.accuracy), row.id))


def _with_data_leaks(rows: Sequence[Row]) -> list[Row]:
    """The rows, where ensembles and imports, which record no leaks, get those of the members on the same data."""
    leaks_by_data: dict[str, Leaks] = {}
    for row in rows:
        if row.kind in (Kind.MEMBER, Kind.REFIT) and not row.is_fold:
            leaks_by_data[row.fingerprint] = merged(leaks_by_data.get(row.fingerprint, {}), row.leaks)
    return [
        replace(row, leaks=merged(row.leaks, leaks_by_data.get(row.fingerprint, {})))
        if row.kind in (Kind.ENSEMBLE, Kind.IMPORT)
        else row
        for row in rows
    ]


def _or_lowest(value: float | None) -> float:
    return -math.inf if value is None else value


def _row(run: Run) -> Row:
    try:
        return _read(run)
    except (DataError, AttributeError, TypeError, ValueError):
        # one broken run must not hide the others; commands that use it raise the error
        return Row(run.id, "?", None, "unreadable")


def _read(run: Run) -> Row:
    record, metrics = run.record, run.metrics
    metric, honest = _first_metric(metrics.get("honest") or {})
    return Row(
        id=run.id,
        kind=run.kind,
        arch=record.arch,
        status=_status(run),
        accuracy=(metrics.get("valid") or {}).get("accuracy"),
        metric=metric,
        honest=honest.get("value"),
        low=honest.get("low"),
        high=honest.get("high"),
        apparent=(metrics.get("apparent") or {}).get(metric) if run.is_ensemble else None,
        **record.costs,
        chosen_on_valid=record.chosen_on_valid,
        fingerprint=run.fingerprint,
        is_fold=run.is_fold,
        leaks=_leaks(run),
    )


def _leaks(run: Run) -> Leaks:
    """Leaks recorded at training time, merged with those that `ens check` has found since.

    The check's leaks of valid do not apply to folds, which split train and valid again.
    """
    checked = known_leaks(run.path.parent, run.fingerprint) if run.fingerprint else {}
    if run.pools_folds or run.is_fold:
        checked = {split: counts for split, counts in checked.items() if split != "valid"}
    return merged(run.record.leaks, checked)


def _first_metric(honest: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any]]:
    """The first metric of `honest`, which is the requested one, with its values."""
    return next(iter(honest.items()), (None, {}))


def _status(run: Run) -> str:
    if run.failed:
        return "failed"
    return "complete" if run.complete else "unfinished"
