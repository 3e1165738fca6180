"""Apparent and cross-fitted scores of the ensemble, the plain mean of all candidates and the best member."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble.combine.aligned import Split
from ensemble.combine.arrays import one_thread
from ensemble.combine.crossfit import (
    FEW_FOLDS,
    MANY_NUMBERS,
    N_FOLDS,
    Crossfitted,
    Folds,
    Progress,
    crossfitted,
    no_progress,
    progress_counter,
    repeated_folds,
)
from ensemble.combine.fit import Fitted, Plan, Pool, Probs, applied, best_alone, decide, decide_in_fold
from ensemble.combine.rule_selection import RuleScore, RuleSelection, select_rule
from ensemble.combine.rules import rules
from ensemble.core.estimate import Estimate
from ensemble.core.predictions import Ints
from ensemble.metrics import Metric
from ensemble.stats.intervals import interval


@dataclass(frozen=True)
class Score:
    """apparent: fitted and scored on the same rows.  honest: cross-fitted."""

    name: str
    metric: str
    apparent: float
    honest: Estimate

    def facts(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {"name": self.name, "metric": self.metric, "apparent": self.apparent}
        return {**values, "honest": self.honest.value, "low": self.honest.low, "high": self.honest.high}


@dataclass(frozen=True)
class Candidate:
    """One way to combine. apparent: predictions (n, k), fitted on the same rows.  honest: cross-fitted predictions
    (n, k), one array per repeat.
    """

    name: str
    apparent: Probs
    honest: tuple[Probs, ...]


@dataclass(frozen=True)
class Evaluation:
    """The fit on all rows and its scores.

    ensemble, plain_mean, best_member: the ensemble, the plain mean of all candidates, the best candidate.  fits:
    the fits without each fold of the first repeat.  scores: metric name -> scores of these three.  tournament: the
    rules that `auto` compared, otherwise empty.  left_out: the rules too large for it.  suspect: metrics whose
    apparent score is worse than the honest interval, which overfitting cannot explain.
    """

    fitted: Fitted
    ensemble: Candidate
    plain_mean: Candidate
    best_member: Candidate
    fits: Crossfitted
    folds: Folds
    scores: dict[str, tuple[Score, Score, Score]]
    tournament: tuple[RuleScore, ...] = ()
    left_out: tuple[str, ...] = ()
    suspect: tuple[str, ...] = ()

    @property
    def apparent(self) -> Probs:
        """The ensemble's predictions on the rows that it was fitted on, (n, k)."""
        return self.ensemble.apparent

    @property
    def crossfitted(self) -> Probs:
        """The ensemble's cross-fitted predictions of the first repeat, (n, k)."""
        return self.ensemble.honest[0]


def evaluate(
    plan: Plan, valid: Split, scored_metrics: Sequence[Metric], progress: Progress = no_progress
) -> Evaluation:
    """Fit on all labelled rows of `valid`, and score by cross-fitting. Raises NothingPassed, DataError."""
    pool = Pool(valid.probs, valid.targets)
    automatic = plan.rule.name == "auto"
    most = FEW_FOLDS if automatic and valid.probs.size > MANY_NUMBERS else N_FOLDS
    repeats = repeated_folds(valid.ids, valid.targets, valid.groups, most)
    with one_thread(plan.rule.name):
        selected = (
            select_rule(plan, pool, repeats, valid.groups, progress=progress)
            if automatic
            else _single_rule(plan, pool, repeats, progress)
        )
    known = repeats[0].known()
    best_fit = best_alone(plan, pool, known)
    best_honest = [
        crossfitted(lambda rows: best_alone(plan, pool, rows), best_fit, pool, folds) for folds in repeats
    ]
    # the plain mean of all candidates is not fitted, so its apparent and honest scores are equal
    uniform = rules.get("uniform")
    mean = applied(uniform, uniform.fit(valid.probs, valid.targets), None, valid.probs)
    ensemble = Candidate(
        "this ensemble", selected.full.predict(valid.probs), tuple(repeat.probs for repeat in selected.honest)
    )
    uncalibrated = "" if selected.full.temperature is None else ", no temperature"
    plain_mean = Candidate(f"plain mean of all {len(plan.ids)}{uncalibrated}", mean, (mean,))
    best_member = Candidate(
        "best member", best_fit.predict(valid.probs), tuple(repeat.probs for repeat in best_honest)
    )
    scores = {}
    for metric in scored_metrics:
        first, second, third = (
            _score(candidate, metric, valid, known) for candidate in (ensemble, plain_mean, best_member)
        )
        scores[metric.name] = (first, second, third)
    return Evaluation(
        fitted=selected.full,
        ensemble=ensemble,
        plain_mean=plain_mean,
        best_member=best_member,
        fits=selected.honest[0],
        folds=repeats[0],
        scores=scores,
        tournament=selected.table,
        left_out=selected.left_out,
        suspect=tuple(metric.name for metric in scored_metrics if _is_suspect(scores[metric.name][0], metric)),
    )


def _is_suspect(score: Score, metric: Metric) -> bool:
    low, high = score.honest.low, score.honest.high
    if low is None or high is None:
        return False
    return score.apparent < low if metric.higher else score.apparent > high


def _single_rule(plan: Plan, pool: Pool, repeats: Sequence[Folds], progress: Progress) -> RuleSelection:
    """A single rule fitted on all rows, and cross-fitted."""
    (full,) = decide(plan, [plan.rule], pool, repeats[0].known())

    tick = progress_counter(progress, sum(len(folds.names) for folds in repeats))

    def fit_in_fold(rows: Ints) -> Fitted:
        fitted = decide_in_fold(plan, [plan.rule], pool, rows)[0]
        tick()
        return fitted

    return RuleSelection(full, tuple(crossfitted(fit_in_fold, full, pool, folds) for folds in repeats), ())


def _score(candidate: Candidate, metric: Metric, valid: Split, known: Ints) -> Score:
    targets = valid.targets[known]
    groups = None if valid.groups is None else valid.groups[known]
    honest = [probs[known] for probs in candidate.honest]
    mean = float(np.mean([metric(probs, targets) for probs in honest]))
    return Score(
        candidate.name,
        metric.name,
        metric(candidate.apparent[known], targets),
        Estimate(mean, *interval(metric, honest, targets, groups)),
    )
