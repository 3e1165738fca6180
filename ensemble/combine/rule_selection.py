"""`auto`: cross-fit every rule on the same folds, select the simplest within one standard error of the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from ensemble.combine.crossfit import (
    Crossfitted,
    Folds,
    Progress,
    assembled,
    no_progress,
    progress_counter,
)
from ensemble.combine.fit import Fitted, Plan, Pool, Probs, decide, decide_in_fold
from ensemble.combine.rules import Rule, rules
from ensemble.core.predictions import UNKNOWN, Ints, Texts
from ensemble.metrics import Metric
from ensemble.stats.intervals import differences


@dataclass(frozen=True)
class RuleScore:
    """A rule that `auto` compares. score: cross-fitted, on the first division into folds.  error: standard error of
    its difference from the best rule's score on the same rows, 0 for the best rule.
    """

    rule: str
    score: float
    error: float


MOST_COEFFICIENTS = 500_000
"""Rules with more are not compared: fits take minutes, and validation rows cannot determine as many."""


@dataclass(frozen=True)
class RuleSelection:
    """The result of `auto`. full: the selected rule fitted on all rows.  honest: cross-fitted predictions, one per
    repeat; nested, so that the rows of a fold do not influence the selection of the rule for that fold either.
    table: the scores of all compared rules.  left_out: the rules too large to compare.
    """

    full: Fitted
    honest: tuple[Crossfitted, ...]
    table: tuple[RuleScore, ...]
    left_out: tuple[str, ...] = ()


def candidate_rules() -> list[Rule]:
    """Every rule except `auto`, the simplest first."""
    return sorted((rules.get(name) for name in rules.names() if name != "auto"), key=lambda rule: rule.complexity)


def too_large(m: int, k: int) -> tuple[str, ...]:
    """The rules that `auto` does not compare for m members and k classes."""
    return tuple(rule.name for rule in candidate_rules() if rule.coefficients(m, k) > MOST_COEFFICIENTS)


def select_rule(
    plan: Plan,
    pool: Pool,
    repeats: Sequence[Folds],
    groups: Texts | None,
    *,
    nested: bool = True,
    progress: Progress = no_progress,
) -> RuleSelection:
    """Select a rule on the first of `repeats`, divisions into folds. nested: with honest predictions.

    Honest predictions repeat the selection on each division separately: averaging the selection over divisions
    would make it more stable than the selection whose score is estimated. Raises NothingPassed.
    """
    left_out = too_large(len(pool.probs), pool.probs.shape[2])
    candidates = [rule for rule in candidate_rules() if rule.name not in left_out]
    fits = sum(
        comb(len(folds.names), 2) * nested + len(folds.names) for folds in (repeats if nested else repeats[:1])
    )
    tick = progress_counter(progress, fits)
    first = _CrossfitRound(plan, candidates, pool, repeats[0], groups, tick)
    table = first.table()
    winner = candidates[simplest(table, plan.metric)]
    (full,) = decide(plan, [winner], pool, repeats[0].known())
    further_rounds = [
        _CrossfitRound(plan, candidates, pool, folds, groups, tick) for folds in repeats[1:] if nested
    ]
    return RuleSelection(
        full, tuple(crossfit.nested(full) for crossfit in (first, *further_rounds) if nested), table, left_out
    )


class _CrossfitRound:
    """The comparison of rules on one division into folds.

    A fit without the folds f and g is used twice: its predictions of g select the rule for f, and those of f the
    rule for g. Ten fits therefore replace the twenty of a plain nested cross-validation.
    """

    def __init__(
        self,
        plan: Plan,
        candidates: Sequence[Rule],
        pool: Pool,
        folds: Folds,
        groups: Texts | None,
        tick: Callable[[], None],
    ) -> None:
        self.plan, self.candidates, self.pool, self.folds, self.groups = plan, candidates, pool, folds, groups
        self.tick = tick
        self.fits = {fold: self._fit(folds.without(fold)) for fold in folds.names}

    def _fit(self, rows: Ints) -> list[Fitted]:
        fitted = decide_in_fold(self.plan, self.candidates, self.pool, rows)
        self.tick()
        return fitted

    def table(self) -> tuple[RuleScore, ...]:
        """Every rule's cross-fitted score on all labelled rows."""
        return self._rule_scores(self._predicted(self.fits), self.folds.known())

    def nested(self, full: Fitted) -> Crossfitted:
        """Each fold predicted by the rule that is selected and fitted on the other folds."""
        inner: dict[int, dict[int, list[Fitted]]] = {fold: {} for fold in self.folds.names}
        for first, second in combinations(self.folds.names, 2):
            rest = self.folds.without(first, second)
            if len(rest):
                fitted = self._fit(rest)
                inner[first][second], inner[second][first] = fitted, fitted
        selected = {fold: self.fits[fold][self._selected_index(inner[fold])] for fold in self.folds.names}
        return assembled({**selected, UNKNOWN: full}, self.pool, self.folds)

    def _selected_index(self, fits: dict[int, list[Fitted]]) -> int:
        if not fits:  # two folds leave no rows for the selection
            return 0
        rows = np.concatenate([self.folds.rows(fold) for fold in fits])
        # the same tolerance as for the selection on all rows, whose standard errors are smaller by this factor
        errors = math.sqrt(len(rows) / len(self.folds.known()))
        return simplest(self._rule_scores(self._predicted(fits), rows), self.plan.metric, errors)

    def _rule_scores(self, probs: Sequence[Probs], rows: Ints) -> tuple[RuleScore, ...]:
        """The score of each rule's predictions (n, k) on `rows`, with standard errors."""
        metric, targets = self.plan.metric, self.pool.targets[rows]
        groups = None if self.groups is None else self.groups[rows]
        predictions = [rule_probs[rows] for rule_probs in probs]
        scores = [metric(rule_probs, targets) for rule_probs in predictions]
        best = _best(scores, metric)
        gaps = differences(metric, predictions[best], predictions, targets, groups)
        return tuple(
            RuleScore(rule.name, score, 0.0 if index == best else gap.se)
            for index, (rule, score, gap) in enumerate(zip(self.candidates, scores, gaps, strict=True))
        )

    def _predicted(self, fits: dict[int, list[Fitted]]) -> list[Probs]:
        """For each rule its predictions (n, k) of the folds that are keys of `fits`; other rows are 0."""
        out = [np.zeros(self.pool.probs.shape[1:], np.float32) for _ in self.candidates]
        for fold, fitted in fits.items():
            fold_rows = self.folds.rows(fold)
            kept = fitted[0].selection.kept  # the same for every rule, since member selection does not depend on it
            probs = self.pool.take(kept, fold_rows)
            for index, rule_fit in enumerate(fitted):
                out[index][fold_rows] = rule_fit.predict_kept(probs)
        return out


def simplest(table: Sequence[RuleScore], metric: Metric, errors: float = 1.0) -> int:
    """The index of the first (simplest) rule within `errors` standard errors of the best."""
    scores = [entry.score for entry in table]
    best = scores[_best(scores, metric)]
    near = (index for index, entry in enumerate(table) if abs(entry.score - best) <= errors * entry.error)
    # the metric is undefined on the rows: the simplest rule
    return next(near, 0)


def _best(scores: Sequence[float], metric: Metric) -> int:
    known = [index for index, score in enumerate(scores) if np.isfinite(score)]
    if not known:
        return 0
    return max(known, key=lambda index: (scores[index] if metric.higher else -scores[index], -index))
