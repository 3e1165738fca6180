"""ensemble.yaml and ensemble.npz: an ensemble as it is kept, and read back to predict with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ensemble.combine.fitting import Fitted, Plan, Probs, applied
from ensemble.combine.rules import Params, rules
from ensemble.errors import DataError, one_line
from ensemble.predictions import Floats, read_arrays
from ensemble.recipe import text
from ensemble.runs.run import Run

PIPELINE = 1
"""Raised by a change that alters what the same runs and options combine to; part of every ensemble's hash."""


@dataclass(frozen=True)
class Ensemble:
    """A combined run read back.

    members: ids of the runs that were chosen and weighed.  sources: ids of those that predict, the same or
    their refits.  weights: one for each member, or None where the rule has none.
    """

    members: tuple[str, ...]
    sources: tuple[str, ...]
    archs: tuple[str, ...]
    rule: str
    metric: str
    threshold: float
    temperature: float | None
    weights: tuple[float, ...] | None
    params: Params

    def predict(self, probs: Floats) -> Probs:
        """float32 (n, k) from the probs (m, n, k) of `sources`, in that order; classes in the run's."""
        return applied(rules.get(self.rule), self.params, self.temperature, probs)


def described(plan: Plan, fitted: Fitted, metric: str, sources: Sequence[Run]) -> dict[str, Any]:
    """ensemble.yaml. sources: the run that predicts for each kept member.

    `rule` is the one that predicts; `asked` stands beside it where `auto` chose it.
    """
    kept = fitted.selection.kept
    weights = fitted.rule.weights(fitted.params)
    members = []
    for position, (index, source) in enumerate(zip(kept, sources, strict=True)):
        entry: dict[str, Any] = {"id": plan.ids[index], "arch": plan.archs[index]}
        entry |= {"refit": source.id} if source.id != plan.ids[index] else {}
        entry |= {"accuracy": float(fitted.accuracies[index])}
        entry |= {} if weights is None else {"weight": float(weights[position])}
        members.append({**entry, "why": fitted.selection.reasons[index]})
    left_out = [
        {"id": plan.ids[i], "accuracy": float(fitted.accuracies[i]), "why": fitted.selection.reasons[i]}
        for i in range(len(plan.ids))
        if i not in kept
    ]
    return {
        "rule": fitted.rule.name,
        **({"asked": plan.rule.name} if plan.rule.name != fitted.rule.name else {}),
        "metric": metric,
        "threshold": plan.threshold,
        "per_arch": plan.per_arch,
        "calibration": None if fitted.temperature is None else {"temperature": fitted.temperature},
        "members": members,
        "left_out": left_out,
    }


def read_ensemble(run: Run) -> Ensemble:
    """The ensemble in a run of kind `ensemble`. Raises DataError when its files are not as written."""
    value: Any = text.read(run.path / "ensemble.yaml")
    params = read_arrays(run.path / "ensemble.npz", f"{run.id}/ensemble.npz")
    try:
        members: list[Mapping[str, Any]] = value["members"]
        weights: list[Any] = [entry.get("weight") for entry in members]
        return Ensemble(
            members=tuple(str(entry["id"]) for entry in members),
            sources=tuple(str(entry.get("refit", entry["id"])) for entry in members),
            archs=tuple(str(entry.get("arch", entry["id"])) for entry in members),
            rule=str(value["rule"]),
            metric=str(value["metric"]),
            threshold=float(value["threshold"]),
            temperature=_temperature(value.get("calibration")),
            weights=None if None in weights else tuple(map(float, weights)),
            params=params,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{run.id}/ensemble.yaml is not as `ens combine` writes it ({one_line(error)}); combine again"
        ) from error


def _temperature(calibration: Any) -> float | None:
    return None if calibration is None else float(calibration["temperature"])
