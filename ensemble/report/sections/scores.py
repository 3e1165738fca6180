"""Honest against apparent: each score, its interval, and what fitting on the same rows would have made of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ensemble.core.files import without_nan
from ensemble.metrics import find
from ensemble.report.classes import Labelled
from ensemble.report.sections.scope import Evidence, Subject
from ensemble.runs.run import Run
from ensemble.stats.intervals import interval

ORDER = ("accuracy", "balanced_accuracy", "macro_f1", "kappa", "roc_auc", "log_loss", "brier", "ece")


@dataclass(frozen=True)
class Score:
    """One metric of the run. value: honest.  low, high: its 95 % interval, where it was computed.

    apparent: fitted and scored on the same rows; None where nothing was fitted on them.  tests: by split.
    """

    metric: str
    higher: bool
    value: float
    low: float | None
    high: float | None
    apparent: float | None
    tests: dict[str, float | None]

    @property
    def flattery(self) -> float | None:
        """How much better the apparent score looks, positive where it flatters."""
        if self.apparent is None:
            return None
        return (self.apparent - self.value) * (1 if self.higher else -1)


def scores(subject: Subject, found: Evidence) -> list[Score]:
    """Every metric that the run's metrics.json has; those that were asked for first. Empty without labels."""
    run = subject.focus
    own = run.metrics.get(found.split) or {}
    honest = run.metrics.get("honest") or {}
    if found.rows is None or not own:
        return []
    names = [*honest, *(name for name in ORDER if name in own and name not in honest)]
    return [_score(run, name, found) for name in names]


def _score(run: Run, name: str, found: Evidence) -> Score:
    assert found.rows is not None
    metrics = run.metrics
    honest = (metrics.get("honest") or {}).get(name)
    low, high = (honest["low"], honest["high"]) if honest else _interval(name, found.rows)
    return Score(
        name,
        find(name, found.rows.classes).higher,
        float(honest["value"] if honest else metrics[found.split][name]),
        low,
        high,
        (metrics.get("apparent") or {}).get(name),
        {split: values.get(name) for split, values in tests(run).items()},
    )


def _interval(name: str, rows: Labelled) -> tuple[float | None, float | None]:
    """Of the accuracy alone: bootstraps of every metric would take longer than the rest of the page."""
    if name != "accuracy":
        return None, None
    low, high = without_nan(interval(find(name, rows.classes), [rows.probs], rows.targets, rows.groups))
    return low, high


def tests(run: Run) -> dict[str, dict[str, float]]:
    """The scores on each labelled test set, by its name."""
    return {
        split: values
        for split, values in run.metrics.items()
        if split.split("-")[0] == "test" and isinstance(values, dict)
    }


@dataclass(frozen=True)
class Bar:
    """A run's accuracy on the rows and its 95 % interval."""

    id: str
    value: float
    low: float
    high: float


def scale(found: Sequence[Bar]) -> tuple[float, float]:
    """Twentieths below the lowest and above the highest bound: where the bars begin and end."""
    low, high = min(bar.low for bar in found), max(bar.high for bar in found)
    return math.floor(20 * low) / 20, math.ceil(20 * high) / 20


def bars(subject: Subject, found: Evidence) -> list[Bar]:
    """The run, then its members, the best first."""
    if found.rows is None or subject.ensemble is None:
        return []
    sides = [(run.id, rows) for run, rows in zip(subject.members, found.members, strict=False)]
    members = sorted((_bar(name, rows) for name, rows in sides), key=lambda bar: (-bar.value, bar.id))
    return [_bar(subject.focus.id, found.rows), *members]


def _bar(name: str, rows: Labelled) -> Bar:
    metric = find("accuracy", rows.classes)
    low, high = interval(metric, [rows.probs], rows.targets, rows.groups)
    return Bar(name, metric(rows.probs, rows.targets), low, high)
