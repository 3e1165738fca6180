"""ensemble.yaml and ensemble.npz, and the command that reproduces an ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ensemble.combine.fit import Fitted, Plan, Probs, applied
from ensemble.combine.rules import Params, rules
from ensemble.core.errors import DataError, MismatchedRuns, one_line
from ensemble.core.predictions import Floats, read_arrays
from ensemble.recipe import text
from ensemble.runs.origin import ens
from ensemble.runs.run import Run
from ensemble.runs.stale import Change, changes, refusal

if TYPE_CHECKING:
    from ensemble.recipe.schema import DataSpec


PIPELINE = 1
"""Version of the combination, part of every ensemble's hash: increased if the same input gives another result."""


@dataclass(frozen=True)
class Ensemble:
    """A combined run loaded from its files.

    members: ids of the selected runs.  sources: ids of the runs that predict, the same or their refits.
    weights: one per member, or None if the rule has none.
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
        """float32 (n, k) from the probs (m, n, k) of `sources`, in that order; classes in the order of the run."""
        return applied(rules.get(self.rule), self.params, self.temperature, probs)


def ensemble_config(plan: Plan, fitted: Fitted, metric: str, sources: Sequence[Run]) -> dict[str, Any]:
    """The content of ensemble.yaml. sources: the run that predicts for each kept member.

    The key `rule` is the rule that predicts; `asked` is added if `auto` selected it.
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
    """The ensemble in a run that is an ensemble. Raises DataError if its files are not in the written format."""
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


def combine_command(run: Run) -> str:
    """The command that combines the members of an ensemble again with the same settings."""
    value: Any = text.read(run.path / "ensemble.yaml")
    requested_rule = rules.get(str(value.get("asked", value["rule"])))
    words = ["--threshold", repr(float(value["threshold"])), "--per-arch", str(value.get("per_arch", 1))]
    words += ["--rule", requested_rule.name, "--metric", str(value["metric"])]
    calibrated = value.get("calibration") is not None
    if calibrated != requested_rule.calibrates:
        words.append("--calibrate" if calibrated else "--no-calibrate")
    if any("refit" in entry for entry in value["members"]):
        words.append("--refits")
    if (name := run.record.name or "ensemble") != "ensemble":
        words += ["--name", name]
    ids = [str(entry["id"]) for entry in (*value["members"], *(value.get("left_out") or []))]
    return ens(run.path.parent, "combine", *words, *ids)


def other_test(run: Run, change: Change, data: DataSpec) -> MismatchedRuns:
    """The error for a run of any kind whose test predictions are of other images than those now in `data`.

    For an ensemble it says to combine again, after its outdated sources have predicted the new images.
    """
    folder = run.path.parent
    if not run.is_ensemble:
        return refusal(change, [run], [run], data, folder, "")
    sources = [Run(folder / run_id) for run_id in read_ensemble(run).sources]
    outdated = changes([source for source in sources if source.complete], {change.split: change.current})
    again = f"type `{combine_command(run)}`"
    return refusal(change, [run], [entry.run for entry in outdated], data, folder, again)
