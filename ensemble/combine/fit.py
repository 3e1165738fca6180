"""Fitting of `ens combine`: member selection, the parameters of the rule, a temperature."""

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
    """kept: indices of the selected candidates, ascending.  reasons: for each candidate, why it is kept or not.

    passed: number of candidates above the threshold.
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
    """Keep every candidate strictly above `threshold`, and the best others up to `per_arch` per architecture.

    Ties go to the smaller id. Raises NothingPassed if nothing is selected, possible only with `per_arch` 0.
    """
    best_first = sorted(range(len(ids)), key=lambda i: (-accuracies[i], ids[i]))
    above = [i for i in best_first if accuracies[i] > threshold]
    reasons = [f"not above {threshold:g}"] * len(ids)
    count_by_arch: dict[str, int] = {}
    for i in above:
        reasons[i] = f"above {threshold:g}"
        count_by_arch[archs[i]] = count_by_arch.get(archs[i], 0) + 1
    kept = set(above)
    for i in best_first:
        if i not in kept and count_by_arch.get(archs[i], 0) < per_arch:
            kept.add(i)
            count_by_arch[archs[i]] = count_by_arch.get(archs[i], 0) + 1
            reasons[i] = f"next best {archs[i]}"
    if not kept:
        raise NothingPassed(_nothing_passed(ids, accuracies, best_first, threshold))
    return Selection(tuple(sorted(kept)), tuple(reasons), len(above))


def _nothing_passed(
    ids: Sequence[str], accuracies: Sequence[float], best_first: Sequence[int], threshold: float
) -> str:
    best = ", ".join(f"{ids[i]} {accuracies[i]:.4f}" for i in best_first[:5])
    return (
        f"none of {len(ids)} members is above {threshold:g}; the best are {best};"
        " lower --threshold, or take the best of each architecture with --per-arch 1"
    )


Probs = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Plan:
    """Settings of a fit: ids and architectures of the m candidates, the threshold, the rule, calibrated or not.

    metric: optimised by some rules, and compared by `auto`.
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
        """bool (m, n): whether each candidate's label is the target."""
        # one member at a time, since `probs` may fill most of the memory
        return np.stack([labels(member) == self.targets for member in self.probs])

    def accuracies(self, rows: Ints) -> Wide:
        """The accuracy (m,) of each candidate on `rows`."""
        hits: Ints = np.count_nonzero(self.hits[:, rows], axis=1)
        return hits / np.float64(len(rows))

    def take(self, kept: Sequence[int], rows: Ints) -> Floats:
        """The probs of the candidates `kept` on `rows`, copied once."""
        out = np.empty((len(kept), len(rows), self.probs.shape[2]), self.probs.dtype)
        for position, index in enumerate(kept):
            np.take(self.probs[index], rows, axis=0, out=out[position])
        return out


@dataclass(frozen=True)
class Fitted:
    """A fitted ensemble. params: of the kept candidates, in their order.  temperature: None if not calibrated."""

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
        """float32 (n, k) from the probs of the kept candidates only; each row independent of the others."""
        return applied(self.rule, self.params, self.temperature, probs)


def applied(rule: Rule, params: Params, temperature: float | None, probs: Floats) -> Probs:
    """The rule applied to probs (m, n, k), then the temperature: float32 (n, k)."""
    mixed = rule.apply(params, probs)
    return (mixed if temperature is None else apply_temperature(mixed, temperature)).astype(np.float32)


def decide(plan: Plan, candidate_rules: Sequence[Rule], pool: Pool, rows: Ints) -> list[Fitted]:
    """Each of `candidate_rules` fitted on the labelled `rows`, in that order. Raises NothingPassed."""
    scores = pool.accuracies(rows)
    selection = select(plan.ids, plan.archs, scores.tolist(), threshold=plan.threshold, per_arch=plan.per_arch)
    kept, targets = pool.take(selection.kept, rows), pool.targets[rows]
    sample = enough_rows(len(rows), kept.shape[2])

    def fit(rule: Rule) -> Fitted:
        params = rule.fit(kept, targets, plan.metric)
        if not plan.calibrate:
            return Fitted(rule, selection, scores, params)
        temperature = fit_temperature(rule.apply(params, kept[:, sample]), targets[sample])
        return Fitted(rule, selection, scores, params, temperature)

    return [fit(rule) for rule in candidate_rules]


def decide_in_fold(plan: Plan, candidate_rules: Sequence[Rule], pool: Pool, rows: Ints) -> list[Fitted]:
    """As `decide`, but with the best candidate alone if none is above the threshold on `rows`.

    On all rows some candidate is above it, so that this fold needs a prediction too.
    """
    try:
        return decide(plan, candidate_rules, pool, rows)
    except NothingPassed:
        # by accuracy, as the threshold is
        return [_alone(plan, pool.accuracies(rows), pool.accuracies(rows))] * len(candidate_rules)


def best_alone(plan: Plan, pool: Pool, rows: Ints) -> Fitted:
    """The best candidate on `rows` by the plan's metric, uncalibrated; ties go to the smaller id."""
    scores = np.array([plan.metric(member[rows], pool.targets[rows]) for member in pool.probs])
    worth = np.where(np.isnan(scores), -np.inf, scores if plan.metric.higher else -scores)
    return _alone(plan, worth, pool.accuracies(rows))


def _alone(plan: Plan, worth: Wide, accuracies: Wide) -> Fitted:
    best = min(range(len(plan.ids)), key=lambda i: (-worth[i], plan.ids[i]))
    selection = Selection((best,), ("",) * len(plan.ids), 0)
    return Fitted(rules.get("uniform"), selection, accuracies, {"weights": np.ones(1)})
