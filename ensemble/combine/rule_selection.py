"""`auto`: every rule cross-fitted on the same folds, then the simplest that is as good as the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from ensemble.combine.crossfit import Crossfitted, Folds, Progress, assembled, counted, no_progress, repeated_folds
from ensemble.combine.fit import Fitted, Plan, Pool, Probs, decide, decide_in_fold
from ensemble.combine.rules import Params, Rule, rule, rules
from ensemble.core.predictions import UNKNOWN, Floats, Ints, Texts
from ensemble.metrics import Metric
from ensemble.stats.intervals import differences


@dataclass(frozen=True)
class RuleScore:
    """A rule in the tournament. score: cross-fitted, on the first division into folds.  error: the standard error
    of its distance from the best rule's score on the same rows, 0 for the best itself.
    """

    rule: str
    score: float
    error: float


MOST_COEFFICIENTS = 500_000
"""Of a rule that `auto` compares: more take minutes, and are more than validation rows can tell."""


@dataclass(frozen=True)
class RuleSelection:
    """What `auto` decided: the fit of the winner on all rows, its honest predictions by repeat, the table.

    left_out: rules that were too large to be compared.
    The honest predictions are nested: the rows of a fold have no part in the choice of the rule either.
    """

    full: Fitted
    honest: tuple[Crossfitted, ...]
    table: tuple[RuleScore, ...]
    left_out: tuple[str, ...] = ()


def candidate_rules() -> list[Rule]:
    """Every rule but `auto`, the simplest first."""
    return sorted((rules.get(name) for name in rules.names() if name != "auto"), key=lambda one: one.complexity)


def too_large(m: int, k: int) -> tuple[str, ...]:
    """The rules that `auto` does not compare for m members and k classes."""
    return tuple(rule.name for rule in candidate_rules() if rule.coefficients(m, k) > MOST_COEFFICIENTS)


def select_rule(
    plan: Plan,
    pool: Pool,
    several: Sequence[Folds],
    groups: Texts | None,
    *,
    nested: bool = True,
    progress: Progress = no_progress,
) -> RuleSelection:
    """The tournament on the first of several divisions into folds. nested: with honest predictions.

    The honest predictions are those of a tournament on each division: were the choice a mean over all of them,
    it would be steadier than what a single one can be evaluated by. Raises NothingPassed.
    """
    left_out = too_large(len(pool.probs), pool.probs.shape[2])
    entrants = [rule for rule in candidate_rules() if rule.name not in left_out]
    fits = sum(
        comb(len(folds.names), 2) * nested + len(folds.names) for folds in (several if nested else several[:1])
    )
    tick = counted(progress, fits)
    first = _CrossfitRound(plan, entrants, pool, several[0], groups, tick)
    table = first.table()
    winner = entrants[simplest(table, plan.metric)]
    (full,) = decide(plan, [winner], pool, several[0].known())
    others = [_CrossfitRound(plan, entrants, pool, folds, groups, tick) for folds in several[1:] if nested]
    return RuleSelection(full, tuple(one.nested(full) for one in (first, *others) if nested), table, left_out)


class _CrossfitRound:
    """The tournament on one division into folds.

    What is decided without the folds f and g serves both of them: it chooses the rule for f by predicting g,
    and the other way round. Ten fits stand in for the twenty of a plain nested cross-validation.
    """

    def __init__(
        self,
        plan: Plan,
        entrants: Sequence[Rule],
        pool: Pool,
        folds: Folds,
        groups: Texts | None,
        tick: Callable[[], None],
    ) -> None:
        self.plan, self.entrants, self.pool, self.folds, self.groups = plan, entrants, pool, folds, groups
        self.tick = tick
        self.fits = {fold: self._decided(folds.without(fold)) for fold in folds.names}

    def _decided(self, rows: Ints) -> list[Fitted]:
        found = decide_in_fold(self.plan, self.entrants, self.pool, rows)
        self.tick()
        return found

    def table(self) -> tuple[RuleScore, ...]:
        """Every rule's cross-fitted score on all labelled rows."""
        return self._scored(self._predicted(self.fits), self.folds.known())

    def nested(self, full: Fitted) -> Crossfitted:
        """Each fold predicted by the rule that wins on the others, fitted on the others."""
        inner: dict[int, dict[int, list[Fitted]]] = {fold: {} for fold in self.folds.names}
        for one, other in combinations(self.folds.names, 2):
            rest = self.folds.without(one, other)
            if len(rest):
                both = self._decided(rest)
                inner[one][other], inner[other][one] = both, both
        chosen = {fold: self.fits[fold][self._winner(inner[fold])] for fold in self.folds.names}
        return assembled({**chosen, UNKNOWN: full}, self.pool, self.folds)

    def _winner(self, fits: dict[int, list[Fitted]]) -> int:
        if not fits:  # two folds leave nothing to choose on
            return 0
        rows = np.concatenate([self.folds.rows(fold) for fold in fits])
        # as bold as the choice on all rows will be, whose errors are as much smaller
        bold = math.sqrt(len(rows) / len(self.folds.known()))
        return simplest(self._scored(self._predicted(fits), rows), self.plan.metric, bold)

    def _scored(self, probs: Sequence[Probs], rows: Ints) -> tuple[RuleScore, ...]:
        """What each rule's predictions (n, k) score on `rows`."""
        metric, targets = self.plan.metric, self.pool.targets[rows]
        groups = None if self.groups is None else self.groups[rows]
        said = [one[rows] for one in probs]
        scores = [metric(one, targets) for one in said]
        best = _best(scores, metric)
        gaps = differences(metric, said[best], said, targets, groups)
        return tuple(
            RuleScore(rule.name, score, 0.0 if index == best else gap.se)
            for index, (rule, score, gap) in enumerate(zip(self.entrants, scores, gaps, strict=True))
        )

    def _predicted(self, fits: dict[int, list[Fitted]]) -> list[Probs]:
        """For each rule its predictions (n, k) of the folds that are keys; other rows are left as they are."""
        out = [np.zeros(self.pool.probs.shape[1:], np.float32) for _ in self.entrants]
        for fold, fitted in fits.items():
            here = self.folds.rows(fold)
            kept = fitted[0].selection.kept  # the same for every rule: they choose from the same members
            probs = self.pool.taken(kept, here)
            for index, one in enumerate(fitted):
                out[index][here] = one.predict_kept(probs)
        return out


def simplest(table: Sequence[RuleScore], metric: Metric, errors: float = 1.0) -> int:
    """The first rule, from the simplest on, within so many standard errors of the best."""
    scores = [entry.score for entry in table]
    best = scores[_best(scores, metric)]
    near = (index for index, entry in enumerate(table) if abs(entry.score - best) <= errors * entry.error)
    # no score at all: the rows say nothing about this metric
    return next(near, 0)


def _best(scores: Sequence[float], metric: Metric) -> int:
    known = [index for index, score in enumerate(scores) if np.isfinite(score)]
    if not known:
        return 0
    return max(known, key=lambda index: (scores[index] if metric.higher else -scores[index], -index))


def _winner(params: Params) -> Rule:
    return rules.get(str(params["rule"]))


@rule(
    "auto",
    complexity=math.inf,
    term=lambda params, j, member: _winner(params).term(params, j, member),
    finish=lambda params, total: _winner(params).finish(params, total),
    weights=lambda params: _winner(params).weights(params),
    shares=lambda params: _winner(params).shares(params),
    optimises=True,
)
def auto(probs: Floats, targets: Ints, metric: Metric) -> Params:
    """The simplest rule whose cross-fitted score is within one paired standard error of the best one's.

    The one-standard-error rule of Breiman et al. (1984). Rows are known by their place, as nothing else is.
    """
    if len(targets) < 2:  # nothing to compare on
        return {"rule": np.array("uniform"), **rules.get("uniform").fit(probs, targets)}
    names = tuple(f"{index:05d}" for index in range(len(probs)))
    rows = np.array([f"{index:09d}" for index in range(len(targets))])
    plan = Plan(names, names, rules.get("auto"), metric=metric, calibrate=True)
    fitted = select_rule(plan, Pool(probs, targets), repeated_folds(rows, targets, None), None, nested=False).full
    return {"rule": np.array(fitted.rule.name), **fitted.params}
