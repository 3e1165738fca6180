"""What `combine` decides on labelled rows, as one value: who is in, the rule's parameters, a temperature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ensemble.combine.rules import Params, Rule, Wide, accuracies, rules
from ensemble.combine.selection import Selection, select
from ensemble.combine.temperature import fit_temperature, heated
from ensemble.errors import NothingPassed
from ensemble.predictions import Floats, Ints

Probs = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Plan:
    """What to decide and how: m candidates by id and architecture, the bar, the rule, calibrated or not."""

    ids: tuple[str, ...]
    archs: tuple[str, ...]
    rule: Rule
    threshold: float = 0.0
    per_arch: int = 1
    calibrate: bool = False


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
        return self.predict_kept(probs[list(self.selection.kept)])

    def predict_kept(self, probs: Floats) -> Probs:
        """float32 (n, k) from the probs of the kept candidates alone. Row by row."""
        return applied(self.rule, self.params, self.temperature, probs)


def applied(rule: Rule, params: Params, temperature: float | None, probs: Floats) -> Probs:
    """The rule with its parameters on probs (m, n, k), then the temperature: float32 (n, k)."""
    mixed = rule.apply(params, probs)
    return (mixed if temperature is None else heated(mixed, temperature)).astype(np.float32)


def fit(plan: Plan, probs: Floats, targets: Ints, scores: Wide | None = None) -> Fitted:
    """Decide on probs (m, n, k) and targets (n,), all known. scores: their accuracies (m,), where at hand.

    Raises NothingPassed.
    """
    scores = accuracies(probs, targets) if scores is None else scores
    chosen = select(plan.ids, plan.archs, scores.tolist(), threshold=plan.threshold, per_arch=plan.per_arch)
    kept = probs[list(chosen.kept)]
    params = plan.rule.fit(kept, targets)
    temperature = fit_temperature(plan.rule.apply(params, kept), targets) if plan.calibrate else None
    return Fitted(plan.rule, chosen, scores, params, temperature)


def fit_in_fold(plan: Plan, probs: Floats, targets: Ints, scores: Wide | None = None) -> Fitted:
    """The same inside a fold, where the best candidate stands in when none is above the bar.

    All rows together passed it, so that an answer must be given for the rows of this fold too.
    """
    scores = accuracies(probs, targets) if scores is None else scores
    try:
        return fit(plan, probs, targets, scores)
    except NothingPassed:
        return fit_best(plan, scores)


def fit_best(plan: Plan, scores: Wide) -> Fitted:
    """The one candidate of the highest accuracy (m,), ties to the smaller id, as it is."""
    best = min(range(len(plan.ids)), key=lambda i: (-scores[i], plan.ids[i]))
    alone = Selection((best,), ("",) * len(plan.ids), 0)
    return Fitted(rules.get("uniform"), alone, scores, {"weights": np.ones(1)})
