"""The command that made an ensemble, and what to type where its predictions are no longer of the test images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ensemble.combine.record import read_ensemble
from ensemble.combine.rules import rules
from ensemble.errors import MismatchedRuns
from ensemble.recipe import text
from ensemble.runs.commands import ens
from ensemble.runs.run import Run
from ensemble.runs.stale import Change, changes, refusal

if TYPE_CHECKING:
    from ensemble.recipe.schema import DataSpec


def combine_command(run: Run) -> str:
    """What to type to combine the members of an ensemble again, chosen and weighed in the same way."""
    value: Any = text.read(run.path / "ensemble.yaml")
    asked = rules.get(str(value.get("asked", value["rule"])))
    words = ["--threshold", repr(float(value["threshold"])), "--per-arch", str(value.get("per_arch", 1))]
    words += ["--rule", asked.name, "--metric", str(value["metric"])]
    calibrated = value.get("calibration") is not None
    if calibrated != asked.calibrates:
        words.append("--calibrate" if calibrated else "--no-calibrate")
    if any("refit" in entry for entry in value["members"]):
        words.append("--refits")
    if run.facts.get("name", "ensemble") != "ensemble":
        words += ["--name", str(run.facts["name"])]
    ids = [str(entry["id"]) for entry in (*value["members"], *(value.get("left_out") or []))]
    return ens(run.path.parent, "combine", *words, *ids)


def other_test(run: Run, change: Change, data: DataSpec) -> MismatchedRuns:
    """The error for a run of any kind whose predictions are of other images than are now in `data`.

    An ensemble is combined again, after those of its runs have predicted anew that have not yet.
    """
    folder = run.path.parent
    if run.kind != "ensemble":
        return refusal(change, [run], [run], data, folder, "")
    there = [Run(folder / one) for one in read_ensemble(run).sources]
    old = changes([one for one in there if one.complete], {change.split: change.there})
    again = f"type `{combine_command(run)}`"
    return refusal(change, [run], [one.run for one in old], data, folder, again)
