"""ensemble.yaml and ensemble.npz as a value, and the command that reproduces an ensemble."""

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
    from ensemble.recipe.data_spec import DataSpec


PIPELINE = 1
"""Version of the combination, part of every ensemble's hash: increased if the same input gives another result."""


@dataclass(frozen=True)
class MemberRow:
    """A candidate. weight: None for one that was left out, or if the rule has no weights.

    arch: empty for one left out that was read from a file.  why: the reason why it was kept or left out.
    """

    id: str
    arch: str
    accuracy: float
    weight: float | None
    kept: bool
    why: str


@dataclass(frozen=True)
class Ensemble:
    """The content of ensemble.yaml and ensemble.npz.

    rows: the members that were kept, then those left out.  sources: ids of the runs that predict, the members or
    their refits.  rule: the rule that predicts.  requested_rule: the same, or `auto` if that selected it.
    """

    rows: tuple[MemberRow, ...]
    sources: tuple[str, ...]
    rule: str
    requested_rule: str
    metric: str
    threshold: float
    per_arch: int
    temperature: float | None
    params: Params

    @property
    def kept(self) -> tuple[MemberRow, ...]:
        """The rows of the members."""
        return tuple(row for row in self.rows if row.kept)

    @property
    def left_out(self) -> tuple[MemberRow, ...]:
        """The rows of the candidates that are no members."""
        return tuple(row for row in self.rows if not row.kept)

    @property
    def members(self) -> tuple[str, ...]:
        """The ids of the members."""
        return tuple(row.id for row in self.kept)

    @property
    def archs(self) -> tuple[str, ...]:
        """The architecture of each member."""
        return tuple(row.arch for row in self.kept)

    @property
    def weights(self) -> tuple[float, ...] | None:
        """The weight of each member; None if the rule has none."""
        weights = tuple(row.weight for row in self.kept if row.weight is not None)
        return weights if len(weights) == len(self.kept) else None

    @property
    def refitted(self) -> bool:
        """Whether refits of the members predict."""
        return self.sources != self.members

    def predict(self, probs: Floats) -> Probs:
        """float32 (n, k) from the probs (m, n, k) of `sources`, in that order; classes in the order of the run."""
        return applied(rules.get(self.rule), self.params, self.temperature, probs)

    def config(self) -> dict[str, Any]:
        """The content of ensemble.yaml. The key `asked` is added if `auto` selected the rule."""
        members = []
        for row, source in zip(self.kept, self.sources, strict=True):
            entry: dict[str, Any] = {"id": row.id, "arch": row.arch}
            entry |= {"refit": source} if source != row.id else {}
            entry |= {"accuracy": row.accuracy}
            entry |= {} if row.weight is None else {"weight": row.weight}
            members.append({**entry, "why": row.why})
        return {
            "rule": self.rule,
            **({"asked": self.requested_rule} if self.requested_rule != self.rule else {}),
            "metric": self.metric,
            "threshold": self.threshold,
            "per_arch": self.per_arch,
            "calibration": None if self.temperature is None else {"temperature": self.temperature},
            "members": members,
            "left_out": [{"id": row.id, "accuracy": row.accuracy, "why": row.why} for row in self.left_out],
        }


def ensemble_of(plan: Plan, fitted: Fitted, metric: str, sources: Sequence[Run]) -> Ensemble:
    """The fitted ensemble. sources: the run that predicts for each kept member."""
    kept, reasons = fitted.selection.kept, fitted.selection.reasons
    weights = fitted.rule.weights(fitted.params)
    by_index = {} if weights is None else dict(zip(kept, weights.tolist(), strict=True))
    order = [*kept, *(index for index in range(len(plan.ids)) if index not in kept)]
    return Ensemble(
        rows=tuple(
            MemberRow(
                id=plan.ids[index],
                arch=plan.archs[index],
                accuracy=float(fitted.accuracies[index]),
                weight=by_index.get(index),
                kept=index in kept,
                why=reasons[index],
            )
            for index in order
        ),
        sources=tuple(source.id for source in sources),
        rule=fitted.rule.name,
        requested_rule=plan.rule.name,
        metric=metric,
        threshold=plan.threshold,
        per_arch=plan.per_arch,
        temperature=fitted.temperature,
        params=fitted.params,
    )


def read_ensemble(run: Run) -> Ensemble:
    """The ensemble in a run that is an ensemble. Raises DataError if its files are not in the written format."""
    value: Any = text.read(run.path / "ensemble.yaml")
    params = read_arrays(run.path / "ensemble.npz", f"{run.id}/ensemble.npz")
    try:
        members: list[Mapping[str, Any]] = value["members"]
        calibration = value.get("calibration")
        return Ensemble(
            rows=(
                *(_row(entry, kept=True) for entry in members),
                *(_row(entry, kept=False) for entry in value.get("left_out") or ()),
            ),
            sources=tuple(str(entry.get("refit", entry["id"])) for entry in members),
            rule=str(value["rule"]),
            requested_rule=str(value.get("asked", value["rule"])),
            metric=str(value["metric"]),
            threshold=float(value["threshold"]),
            per_arch=int(value.get("per_arch", 1)),
            temperature=None if calibration is None else float(calibration["temperature"]),
            params=params,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{run.id}/ensemble.yaml is not as `ens combine` writes it ({one_line(error)}); combine again"
        ) from error


def _row(entry: Mapping[str, Any], *, kept: bool) -> MemberRow:
    weight = entry.get("weight")
    return MemberRow(
        id=str(entry["id"]),
        arch=str(entry.get("arch", entry["id"] if kept else "")),
        accuracy=float(entry["accuracy"]),
        weight=None if weight is None else float(weight),
        kept=kept,
        why=str(entry.get("why", "")),
    )


def combine_command(run: Run) -> str:
    """The command that combines the members of an ensemble again with the same settings."""
    ensemble = read_ensemble(run)
    requested_rule = rules.get(ensemble.requested_rule)
    words = ["--threshold", repr(ensemble.threshold), "--per-arch", str(ensemble.per_arch)]
    words += ["--rule", requested_rule.name, "--metric", ensemble.metric]
    calibrated = ensemble.temperature is not None
    if calibrated != requested_rule.calibrates:
        words.append("--calibrate" if calibrated else "--no-calibrate")
    if ensemble.refitted:
        words.append("--refits")
    if (name := run.record.name or "ensemble") != "ensemble":
        words += ["--name", name]
    return ens(run.path.parent, "combine", *words, *(row.id for row in ensemble.rows))


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
