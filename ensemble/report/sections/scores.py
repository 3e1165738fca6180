"""Scores of a run: the honest (cross-fitted) value, its interval, and the apparent value on the fitted rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ensemble.core.estimate import Estimate
from ensemble.core.files import without_nan
from ensemble.metrics import find, metrics
from ensemble.report.classes import Labelled
from ensemble.report.sections.scope import Evidence, Subject
from ensemble.runs.run import Run
from ensemble.stats.intervals import interval

ORDER = ("accuracy", "balanced_accuracy", "macro_f1", "kappa", "roc_auc", "log_loss", "brier", "ece")
"""The order on the page; metrics of other packages follow."""


@dataclass(frozen=True, kw_only=True)
class Score(Estimate):
    """The honest score of one metric of the run; its interval is None if not computed.

    apparent: fitted and scored on the same rows; None if nothing was fitted on them.  tests: test split -> score.
    """

    metric: str
    higher: bool
    apparent: float | None
    tests: dict[str, float | None]

    @property
    def optimism(self) -> float | None:
        """How much better the apparent score is than the honest one (Efron's optimism); None without one."""
        if self.apparent is None:
            return None
        return (self.apparent - self.value) * (1 if self.higher else -1)


def scores(subject: Subject, evidence: Evidence) -> list[Score]:
    """Every metric in the run's metrics.json, the requested ones first. Empty without labels."""
    run = subject.focus
    split_metrics = run.metrics.get(evidence.split) or {}
    honest = run.metrics.get("honest") or {}
    if evidence.rows is None or not split_metrics:
        return []
    known = [*ORDER, *(name for name in metrics.names() if name not in ORDER)]
    names = [*honest, *(name for name in known if name in split_metrics and name not in honest)]
    return [_score(run, name, evidence) for name in names]


def _score(run: Run, name: str, evidence: Evidence) -> Score:
    assert evidence.rows is not None
    values = run.metrics
    honest = (values.get("honest") or {}).get(name)
    low, high = (honest["low"], honest["high"]) if honest else _interval(name, evidence.rows)
    return Score(
        float(honest["value"] if honest else values[evidence.split][name]),
        low,
        high,
        metric=name,
        higher=find(name, evidence.rows.classes).higher,
        apparent=(values.get("apparent") or {}).get(name),
        tests={split: test_scores.get(name) for split, test_scores in tests(run).items()},
    )


def _interval(name: str, rows: Labelled) -> tuple[float | None, float | None]:
    """The 95 % interval of the accuracy only: bootstrapping every metric would take longer than the whole page."""
    if name != "accuracy":
        return None, None
    low, high = without_nan(interval(find(name, rows.classes), [rows.probs], rows.targets, rows.groups))
    return low, high


def tests(run: Run) -> dict[str, dict[str, float]]:
    """Test split -> metric -> score, for each test split in metrics.json."""
    return {
        split: values
        for split, values in run.metrics.items()
        if split.split("-")[0] == "test" and isinstance(values, dict)
    }


@dataclass(frozen=True, kw_only=True)
class Bar(Estimate):
    """A run's accuracy on the evidence rows."""

    id: str


def scale(accuracy_bars: Sequence[Bar]) -> tuple[float, float]:
    """(start, end) of the axis: lowest and highest bound, rounded outwards to multiples of 0.05."""
    low = min(bar.value if bar.low is None else bar.low for bar in accuracy_bars)
    high = max(bar.value if bar.high is None else bar.high for bar in accuracy_bars)
    return math.floor(20 * low) / 20, math.ceil(20 * high) / 20


def bars(subject: Subject, evidence: Evidence) -> list[Bar]:
    """The ensemble, then its members, best first. Empty without labels or for a run that is not an ensemble."""
    if evidence.rows is None or subject.ensemble is None:
        return []
    member_rows = [(run.id, rows) for run, rows in zip(subject.members, evidence.members, strict=False)]
    members = sorted((_bar(name, rows) for name, rows in member_rows), key=lambda bar: (-bar.value, bar.id))
    return [_bar(subject.focus.id, evidence.rows), *members]


def _bar(name: str, rows: Labelled) -> Bar:
    metric = find("accuracy", rows.classes)
    bounds = interval(metric, [rows.probs], rows.targets, rows.groups)
    return Bar(metric(rows.probs, rows.targets), *bounds, id=name)
