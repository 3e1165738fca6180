"""Two numbers for everything that `combine` could have done: apparent, and honest with an interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ensemble.combine.crossfit import Mask, crossfitted, folds_of
from ensemble.combine.fitting import Fitted, Plan, Probs, applied, fit, fit_best, fit_in_fold
from ensemble.combine.intervals import interval
from ensemble.combine.members import Split
from ensemble.combine.rules import Wide, rules
from ensemble.metrics import Metric, labels, metrics
from ensemble.predictions import UNKNOWN, Ints


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
class Judged:
    """What was fitted on all rows, its predictions for them, the cross-fitted ones, and the scores by metric.

    scores: for each metric the ensemble's, the plain mean's and the best member's.
    """

    fitted: Fitted
    apparent: Probs
    crossfitted: Probs
    scores: dict[str, tuple[Score, Score, Score]]


def judge(plan: Plan, valid: Split, metric_names: list[str]) -> Judged:
    """Fit on all labelled rows of `valid`, and score by cross-fitting. Raises NothingPassed."""
    probs, targets, known = valid.probs, valid.targets, valid.targets != UNKNOWN
    hits = labels(probs) == targets
    folds = folds_of(valid.ids, targets, valid.groups)

    def accuracies(rows: Mask) -> Wide:
        right: Ints = np.count_nonzero(hits[:, rows], axis=1)
        return right / np.float64(np.count_nonzero(rows))

    def decided(rows: Mask) -> Fitted:
        return fit_in_fold(plan, probs[:, rows], targets[rows], accuracies(rows))

    def best_of(rows: Mask) -> Fitted:
        return fit_best(plan, accuracies(rows))

    fitted = fit(plan, probs[:, known], targets[known], accuracies(known))
    best = best_of(known)
    # the plain mean of all candidates decides nothing, so its two numbers are one
    uniform = rules.get("uniform")
    mean = applied(uniform, uniform.fit(probs, targets), None, probs)
    rows = {
        "this ensemble": (fitted.predict(probs), crossfitted(decided, fitted, probs, folds)),
        f"plain mean of all {len(plan.ids)}": (mean, mean),
        "best member": (best.predict(probs), crossfitted(best_of, best, probs, folds)),
    }
    scores = {}
    for metric_name in metric_names:
        ours, plain, single = (_score(name, metrics.get(metric_name), *pair, valid) for name, pair in rows.items())
        scores[metric_name] = (ours, plain, single)
    apparent, honest = rows["this ensemble"]
    return Judged(fitted, apparent, honest, scores)


def _score(name: str, metric: Metric, apparent: Probs, honest: Probs, valid: Split) -> Score:
    known = valid.targets != UNKNOWN
    targets = valid.targets[known]
    groups = None if valid.groups is None else valid.groups[known]
    low, high = interval(metric, honest[known], targets, groups)
    return Score(name, metric.name, metric(apparent[known], targets), metric(honest[known], targets), low, high)
