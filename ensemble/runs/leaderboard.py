"""The score of a run that a reader should believe, and the leaderboard of all runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ensemble.core.errors import DataError
from ensemble.core.files import without_nan
from ensemble.data.leaks import Leaks, known_leaks, merged
from ensemble.metrics import find
from ensemble.runs.origin import named_run
from ensemble.runs.run import Run
from ensemble.stats.intervals import interval

NOT_MEDICAL = (
    "This is not a medical device.",
    "It is for research and teaching. It must not be used to diagnose, treat or prevent a disease, or to decide"
    " about a person's care. Whoever is worried about their health sees a doctor, whatever this model says.",
)
"""Its first sentence, which is shown in bold, and the rest."""

LIMITS = (
    "The score is of images like the validation rows: from the same source, chosen in the same way. Images of"
    " anything else are given one of the classes all the same, perhaps with great confidence. How it does for"
    " groups of people or kinds of cameras that the rows do not name is not known."
)


@dataclass(frozen=True)
class Headline:
    """A score on validation rows with its 95 % interval, None where that is not defined.

    rows: how many were scored.  of: whose it is, where that is not the run's own; else nothing.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    rows: int
    of: str = ""

    def __str__(self) -> str:
        bounds = "" if self.low is None else f" (95 % interval {self.low:.4f} to {self.high:.4f})"
        return f"{self.metric} {self.value:.4f}{bounds} on {self.rows} validation rows{self.of and ', ' + self.of}"


def headline(run: Run) -> Headline | None:
    """An ensemble's honest score, a member's accuracy; None where no validation row has a label.

    A refit has none of its own: the member before it stands for it, by name.
    """
    honest = run.metrics.get("honest")
    if honest:
        metric, score = next(iter(honest.items()))
        rows, of = run.metrics["valid"]["n"], run.metrics.get("score_of", "")
        return Headline(metric, score["value"], score["low"], score["high"], rows, of and f"of {of}")
    if not run.has("valid"):
        parents = run.facts.get("parents") or []
        if run.kind != "refit" or not parents:
            return None
        found = headline(named_run(run.path.parent, str(parents[0]["id"])))
        return found and Headline(**{**vars(found), "of": f"of {parents[0]['id']}, before the refit"})
    rows = run.predictions("valid")
    known = rows.labelled
    if rows.targets is None or not known.any():
        return None
    probs, targets = rows.probs[known], rows.targets[known]
    metric = find("accuracy", rows.classes.tolist())
    low, high = without_nan(interval(metric, [probs], targets, None if rows.groups is None else rows.groups[known]))
    of = ""
    if run.kind == "student":
        of = "flattered by its soft labels" + (", of its folds" if run.pools_folds else "")
    return Headline("accuracy", float(metric(probs, targets)), low, high, len(targets), of)


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
