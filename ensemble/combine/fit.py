"""The decisions of `ens combine`: members selected, the rule's parameters, a temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ensemble.combine.arrays import enough_rows
from ensemble.combine.calibration import apply_temperature, fit_temperature
from ensemble.combine.rules import Params, Rule, rules
from ensemble.core.errors import NothingPassed
from ensemble.core.predictions import Floats, Ints, Wide
from ensemble.metrics import Metric, labels, metrics


@dataclass(frozen=True)
class Selection:
    """kept: indices of the chosen candidates, ascending.  reasons: for every candidate, why it is in or out.

    passed: how many were above the threshold.
    """

    kept: tuple[int, ...]
    reasons: tuple[str, ...]
    passed: int


def select(
    ids: Sequence[str],
    archs: Sequence[str],
    accuracies: Sequence[float],
    *,
    threshold: float = 0.0,
    per_arch: int = 1,
) -> Selection:
    """Keep every candidate strictly above `threshold`, and fill each architecture up to `per_arch`.

    The next best fill up; ties go to the smaller id. Raises NothingPassed when nothing is chosen, which takes
    `per_arch` 0.
    """
    best_first = sorted(range(len(ids)), key=lambda i: (-accuracies[i], ids[i]))
    above = [i for i in best_first if accuracies[i] > threshold]
    reasons = [f"not above {threshold:g}"] * len(ids)
    taken: dict[str, int] = {}
    for i in above:
        reasons[i] = f"above {threshold:g}"
        taken[archs[i]] = taken.get(archs[i], 0) + 1
    kept = set(above)
    for i in best_first:
        if i not in kept and taken.get(archs[i], 0) < per_arch:
            kept.add(i)
            taken[archs[i]] = taken.get(archs[i], 0) + 1
            reasons[i] = f"next best {archs[i]}"
    if not kept:
        raise NothingPassed(_nothing(ids, accuracies, best_first, threshold))
    return Selection(tuple(sorted(kept)), tuple(reasons), len(above))


def _nothing(ids: Sequence[str], accuracies: Sequence[float], best_first: Sequence[int], threshold: float) -> str:
    best = ", ".join(f"{ids[i]} {accuracies[i]:.4f}" for i in best_first[:5])
    return (
        f"none of {len(ids)} members is above {threshold:g}; the best are {best};"
        " lower --threshold, or take the best of each architecture with --per-arch 1"
    )


Probs = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Plan:
    """What to decide and how: m candidates by id and architecture, the bar, the rule, calibrated or not.

    metric: what a rule optimises, and what `auto` compares rules by.
    """

    ids: tuple[str, ...]
    archs: tuple[str, ...]
    rule: Rule
    threshold: float = 0.0
    per_arch: int = 1
    calibrate: bool = False
    metric: Metric = field(default_factory=lambda: metrics.get("accuracy"))


@dataclass(frozen=True)
class Pool:
    """All candidates on all rows: probs (m, n, k), targets (n,) with -1 where unknown."""

    probs: Floats
    targets: Ints

    @cached_property
    def hits(self) -> npt.NDArray[np.bool_]:
        """bool (m, n): who is right on what."""
        # member by member: the stack may be most of the memory there is
        return np.stack([labels(member) == self.targets for member in self.probs])

    def accuracies(self, rows: Ints) -> Wide:
        """The accuracy (m,) of each candidate on some rows."""
        right: Ints = np.count_nonzero(self.hits[:, rows], axis=1)
        return right / np.float64(len(rows))

    def taken(self, kept: Sequence[int], rows: Ints) -> Floats:
        """The probs of some candidates on some rows, copied once."""
        out = np.empty((len(kept), len(rows), self.probs.shape[2]), self.probs.dtype)
        for position, index in enumerate(kept):
            np.take(self.probs[index], rows, axis=0, out=out[position])
        return out


@dataclass(frozen=True)
class Fitted:
    """What was decided. params belong to the kept candidates, in their order; no temperature is no change."""

    rule: Rule
    selection: Selection
    accuracies: Wide
    params: Params
    temperature: float | None = None

    def predict(self, probs: Floats) -> Probs:
        """float32 (n, k) from the probs (m, n, k) of all candidates."""
        kept = self.selection.kept
        return self.predict_kept(probs if len(kept) == len(probs) else probs[list(kept)])

    def predict_kept(self, probs: Floats) -> Probs:
        """float32 (n, k) from the probs of the kept candidates alone. Row by row."""
        return applied(self.rule, self.params, self.temperature, probs)


def applied(rule: Rule, params: Params, temperature: float | None, probs: Floats) -> Probs:
    """The rule with its parameters on probs (m, n, k), then the temperature: float32 (n, k)."""
    mixed = rule.apply(params, probs)
    return (mixed if temperature is None else apply_temperature(mixed, temperature)).astype(np.float32)


def decide(plan: Plan, several: Sequence[Rule], pool: Pool, rows: Ints) -> list[Fitted]:
    """What each of `several` rules decides on the labelled `rows`, in that order. Raises NothingPassed."""
    scores = pool.accuracies(rows)
    chosen = select(plan.ids, plan.archs, scores.tolist(), threshold=plan.threshold, per_arch=plan.per_arch)
    kept, targets = pool.taken(chosen.kept, rows), pool.targets[rows]
    some = enough_rows(len(rows), kept.shape[2])

    def fit(rule: Rule) -> Fitted:
        params = rule.fit(kept, targets, plan.metric)
        if not plan.calibrate:
            return Fitted(rule, chosen, scores, params)
        temperature = fit_temperature(rule.apply(params, kept[:, some]), targets[some])
        return Fitted(rule, chosen, scores, params, temperature)

    return [fit(rule) for rule in several]


def decide_in_fold(plan: Plan, several: Sequence[Rule], pool: Pool, rows: Ints) -> list[Fitted]:
    """The same inside a fold, where the best candidate stands in when none is above the bar.

    All rows together passed it, so that an answer must be given for the rows of this fold too.
    """
    try:
        return decide(plan, several, pool, rows)
    except NothingPassed:
        # by accuracy, as the bar is
        return [_alone(plan, pool.accuracies(rows), pool.accuracies(rows))] * len(several)


def best_alone(plan: Plan, pool: Pool, rows: Ints) -> Fitted:
    """The one candidate that is best on `rows` by the plan's metric, ties to the smaller id, as it is."""
    found = np.array([plan.metric(member[rows], pool.targets[rows]) for member in pool.probs])
    worth = np.where(np.isnan(found), -np.inf, found if plan.metric.higher else -found)
    return _alone(plan, worth, pool.accuracies(rows))


def _alone(plan: Plan, worth: Wide, accuracies: Wide) -> Fitted:
    best = min(range(len(plan.ids)), key=lambda i: (-worth[i], plan.ids[i]))
    alone = Selection((best,), ("",) * len(plan.ids), 0)
    return Fitted(rules.get("uniform"), alone, accuracies, {"weights": np.ones(1)})
