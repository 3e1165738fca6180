"""Two numbers for everything that `combine` could have done: apparent, and honest with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    counted,
    crossfitted,
    no_progress,
    repeated_folds,
)
from ensemble.combine.fit import Fitted, Plan, Pool, Probs, applied, best_alone, decide, decide_in_fold
from ensemble.combine.rule_selection import RuleScore, RuleSelection, select_rule
from ensemble.combine.rules import rules
from ensemble.core.predictions import Ints
from ensemble.metrics import Metric
from ensemble.stats.intervals import interval


@dataclass(frozen=True)
class Score:
    """apparent: fitted and scored on the same rows.  honest: cross-fitted, its 95 % interval low to high."""

    name: str
    metric: str
    apparent: float
    honest: float
    low: float
    high: float


@dataclass(frozen=True)
class Candidate:
    """One way to answer: its predictions (n, k) where it was fitted on the rows themselves, and the honest ones
    of every repeat.
    """

    name: str
    apparent: Probs
    honest: tuple[Probs, ...]


@dataclass(frozen=True)
class Evaluation:
    """What was fitted on all rows, and how good that is.

    ours, plain, single: the ensemble, the plain mean of all candidates, the best member.  fits: what was
    decided without each fold of the first repeat.  scores: of the three, by metric.  tournament: the rules
    that `auto` compared, else nothing.  left_out: those that were too large for it.  suspect:
    metrics whose apparent score is worse than the honest interval, which fitting cannot explain.
    """

    fitted: Fitted
    ours: Candidate
    plain: Candidate
    single: Candidate
    fits: Crossfitted
    folds: Folds
    scores: dict[str, tuple[Score, Score, Score]]
    tournament: tuple[RuleScore, ...] = ()
    left_out: tuple[str, ...] = ()
    suspect: tuple[str, ...] = ()

    @property
    def apparent(self) -> Probs:
        """The ensemble's predictions of the rows that it was fitted on, (n, k)."""
        return self.ours.apparent

    @property
    def crossfitted(self) -> Probs:
        """The ensemble's predictions of rows that had no part in it, (n, k)."""
        return self.ours.honest[0]


def evaluate(plan: Plan, valid: Split, scored: Sequence[Metric], progress: Progress = no_progress) -> Evaluation:
    """Fit on all labelled rows of `valid`, and score by cross-fitting. Raises NothingPassed, DataError."""
    pool = Pool(valid.probs, valid.targets)
    automatic = plan.rule.name == "auto"
    most = FEW_FOLDS if automatic and valid.probs.size > MANY_NUMBERS else N_FOLDS
    several = repeated_folds(valid.ids, valid.targets, valid.groups, most)
    with one_thread(plan.rule.name):
        found = (
            select_rule(plan, pool, several, valid.groups, progress=progress)
            if automatic
            else _plain(plan, pool, several, progress)
        )
    known = several[0].known()
    best = best_alone(plan, pool, known)
    best_honest = [crossfitted(lambda rows: best_alone(plan, pool, rows), best, pool, folds) for folds in several]
    # the plain mean of all candidates decides nothing, so its two numbers are one
    uniform = rules.get("uniform")
    mean = applied(uniform, uniform.fit(valid.probs, valid.targets), None, valid.probs)
    ours = Candidate("this ensemble", found.full.predict(valid.probs), tuple(one.probs for one in found.honest))
    uncalibrated = "" if found.full.temperature is None else ", no temperature"
    plain = Candidate(f"plain mean of all {len(plan.ids)}{uncalibrated}", mean, (mean,))
    single = Candidate("best member", best.predict(valid.probs), tuple(one.probs for one in best_honest))
    scores = {}
    for metric in scored:
        first, second, third = (_score(side, metric, valid, known) for side in (ours, plain, single))
        scores[metric.name] = (first, second, third)
    return Evaluation(
        fitted=found.full,
        ours=ours,
        plain=plain,
        single=single,
        fits=found.honest[0],
        folds=several[0],
        scores=scores,
        tournament=found.table,
        left_out=found.left_out,
        suspect=tuple(metric.name for metric in scored if _is_suspect(scores[metric.name][0], metric)),
    )


def _is_suspect(score: Score, metric: Metric) -> bool:
    return score.apparent < score.low if metric.higher else score.apparent > score.high


def _plain(plan: Plan, pool: Pool, several: Sequence[Folds], progress: Progress) -> RuleSelection:
    """One rule, cross-fitted."""
    (full,) = decide(plan, [plan.rule], pool, several[0].known())

    tick = counted(progress, sum(len(folds.names) for folds in several))

    def decided(rows: Ints) -> Fitted:
        found = decide_in_fold(plan, [plan.rule], pool, rows)[0]
        tick()
        return found

    return RuleSelection(full, tuple(crossfitted(decided, full, pool, folds) for folds in several), ())


def _score(side: Candidate, metric: Metric, valid: Split, known: Ints) -> Score:
    targets = valid.targets[known]
    groups = None if valid.groups is None else valid.groups[known]
    honest = [one[known] for one in side.honest]
    low, high = interval(metric, honest, targets, groups)
    return Score(
        side.name,
        metric.name,
        metric(side.apparent[known], targets),
        float(np.mean([metric(one, targets) for one in honest])),
        low,
        high,
    )
