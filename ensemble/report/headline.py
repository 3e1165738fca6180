"""The one score of a run that a reader should believe, wherever it is shown without the rest."""

from __future__ import annotations

from dataclasses import dataclass

from ensemble.combine.intervals import interval
from ensemble.files import without_nan
from ensemble.metrics import find
from ensemble.runs.named import named_run
from ensemble.runs.run import Run


@dataclass(frozen=True)
class Headline:
    """A score on validation rows with its 95 % interval, None where that is not defined.

    rows: how many were scored.  of: whose it is, where that is not the run's own; else nothing.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    rows: int
    of: str = ""

    def __str__(self) -> str:
        bounds = "" if self.low is None else f" (95 % interval {self.low:.4f} to {self.high:.4f})"
        return f"{self.metric} {self.value:.4f}{bounds} on {self.rows} validation rows{self.of and ', ' + self.of}"


def headline(run: Run) -> Headline | None:
    """An ensemble's honest score, a member's accuracy; None where no validation row has a label.

    A refit has none of its own: the member before it stands for it, by name.
    """
    honest = run.metrics.get("honest")
    if honest:
        metric, score = next(iter(honest.items()))
        rows, of = run.metrics["valid"]["n"], run.metrics.get("score_of", "")
        return Headline(metric, score["value"], score["low"], score["high"], rows, of and f"of {of}")
    if not run.has("valid"):
        parents = run.facts.get("parents") or []
        if run.kind != "refit" or not parents:
            return None
        found = headline(named_run(run.path.parent, str(parents[0]["id"])))
        return found and Headline(**{**vars(found), "of": f"of {parents[0]['id']}, before the refit"})
    rows = run.predictions("valid")
    known = rows.labelled
    if rows.targets is None or not known.any():
        return None
    probs, targets = rows.probs[known], rows.targets[known]
    metric = find("accuracy", rows.classes.tolist())
    low, high = without_nan(interval(metric, [probs], targets, None if rows.groups is None else rows.groups[known]))
    of = ""
    if run.kind == "student":
        of = "flattered by its soft labels" + (", of its folds" if run.pools_folds else "")
    return Headline("accuracy", float(metric(probs, targets)), low, high, len(targets), of)
