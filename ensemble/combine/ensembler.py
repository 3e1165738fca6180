"""Combine runs into an ensemble on disk: align, select, weight, cross-fit, predict the test sets, write."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble.combine.aligned import Split, gather, without_copies
from ensemble.combine.candidates import leaves, refit_of
from ensemble.combine.crossfit import Progress, no_progress
from ensemble.combine.evaluate import Evaluation, Score, evaluate
from ensemble.combine.fit import Plan
from ensemble.combine.record import PIPELINE, Ensemble, MemberRow, ensemble_of
from ensemble.combine.report import Report, report
from ensemble.combine.rules import rules
from ensemble.combine.run_record import facts_of, metrics_of, notes_of
from ensemble.core.errors import DataError, MismatchedRuns, RecipeError, first_few
from ensemble.core.files import json_text, sha256_file, sha256_json
from ensemble.core.predictions import UNKNOWN, Predictions, Texts
from ensemble.metrics import Metric, absent, check_name, find
from ensemble.recipe import text
from ensemble.runs.origin import data_of
from ensemble.runs.run import Run, all_runs
from ensemble.runs.stale import compared, repredict_command
from ensemble.runs.writing import arrays_content, run_id, write_run

if TYPE_CHECKING:
    from ensemble.recipe.data_spec import DataSpec

SAMPLE = 2
"""Version of the sampling of rows, part of the hash of ensembles that are fitted on a sample of the rows."""


@dataclass(frozen=True)
class Combined:
    """The result of `combine`. scores: of this ensemble, the plain mean and the best member, by the given metric.

    rule: the selected rule if `auto` was given.  report: comparisons and contributions beside the scores.
    notes: caveats, one line each.
    """

    run: Run
    rule: str
    members: tuple[MemberRow, ...]
    temperature: float | None
    scores: tuple[Score, ...]
    report: Report
    notes: tuple[str, ...]

    @property
    def run_id(self) -> str:
        """The id of the ensemble's run."""
        return self.run.id

    @property
    def member_ids(self) -> tuple[str, ...]:
        """The ids of the members that were kept."""
        return tuple(row.id for row in self.members if row.kept)

    @property
    def has_test(self) -> bool:
        """Whether the run has test predictions to submit."""
        return self.run.has("test")


def combine(
    runs: Sequence[Run],
    *,
    folder: Path,
    threshold: float = 0.0,
    per_arch: int = 1,
    rule: str = "accuracy",
    metric: str = "accuracy",
    calibrate: bool | None = None,
    refits: bool = False,
    name: str = "ensemble",
    data: DataSpec | None = None,
    progress: Progress = no_progress,
) -> Combined:
    """Combine `runs` into the run `folder/<name>-<hash8>`; the same input gives the same id and bytes.

    Ensembles among them are replaced by their members. calibrate: None for the rule's default. data: location of
    the images; test sets whose images differ from those that `runs` predicted are an error. progress: called with
    (fits done, fits in total). Raises MismatchedRuns, DataError, RecipeError or NothingPassed, and then nothing is
    written.
    """
    check_name(metric)
    run_id(name, "0" * 8)  # report an invalid name before the work
    candidates, notes = leaves(runs)
    if not candidates:
        raise DataError(f"no complete runs of this data set in {folder}; type `ens train`, or name the runs")
    settings = (threshold, per_arch, rule, calibrate)
    _plan(candidates, *settings)  # report invalid settings before files are read
    members, valid, copies = without_copies(candidates, gather(candidates, "valid"))
    plan, evaluation = _evaluated(_plan(members, *settings), members, valid, metric, progress)
    ensemble_report = report(plan, evaluation, valid, members)
    kept = [members[i] for i in evaluation.fitted.selection.kept]
    sources = [refit_of(run, all_runs(folder)) for run in kept] if refits else kept
    digest = _digest(members, plan, metric, sources, valid.probs.shape)
    path = folder / run_id(name, digest)
    compared_note = _refuse_changed_tests(sources, data, folder)
    tests, test_notes = _tests(evaluation, sources, valid.classes, path.name)
    refitted = any(source.id != run.id for source, run in zip(sources, kept, strict=True))
    notes += copies + notes_of(evaluation, kept, refitted, valid, threshold) + compared_note + test_notes
    ensemble = ensemble_of(plan, evaluation.fitted, metric, sources)
    files = _files(ensemble, evaluation, ensemble_report)
    predictions = {"valid": valid.predictions(evaluation.crossfitted, path.name), **tests}
    facts = facts_of(name, digest, kept, sources, valid.classes, tests)
    scores = metrics_of(evaluation, valid, refitted)
    run = write_run(path, facts, predictions=predictions, files=files, metrics=scores)
    rows = tuple(sorted(ensemble.rows, key=lambda row: (not row.kept, -row.accuracy, row.id)))
    results = evaluation.scores[plan.metric.name]
    return Combined(run, ensemble.rule, rows, ensemble.temperature, results, ensemble_report, tuple(notes))


def _files(ensemble: Ensemble, evaluation: Evaluation, ensemble_report: Report) -> dict[str, bytes | str]:
    return {
        "ensemble.yaml": text.dump(ensemble.config()),
        "ensemble.npz": arrays_content(evaluation.fitted.params),
        "report.json": json_text(ensemble_report.facts()),
    }


def _evaluated(
    plan: Plan, members: Sequence[Run], valid: Split, metric: str, progress: Progress
) -> tuple[Plan, Evaluation]:
    """The plan with its metric, and its evaluation. Raises DataError if no row has a target."""
    if not valid.labelled:
        raise DataError(
            f"none of {first_few(run.id for run in members)} has validation targets;"
            " import them again with a target column or --targets-from"
        )
    plan = replace(plan, metric=_metric(metric, valid))
    scored = [plan.metric, *(() if metric == "accuracy" else (find("accuracy", ()),))]
    return plan, evaluate(plan, valid, scored, progress)


def _plan(members: Sequence[Run], threshold: float, per_arch: int, rule: str, calibrate: bool | None) -> Plan:
    if not 0 <= threshold <= 1:  # false for nan too
        raise RecipeError(f"threshold {threshold} found, a number from 0 to 1 expected")
    if per_arch < 0:
        raise RecipeError(f"per_arch {per_arch} found, 0 or more expected")
    rule_entry = rules.get(rule)
    return Plan(
        ids=tuple(run.id for run in members),
        archs=tuple(run.arch for run in members),
        rule=rule_entry,
        threshold=float(threshold),
        per_arch=per_arch,
        calibrate=rule_entry.calibrates if calibrate is None else calibrate,
    )


def _metric(name: str, valid: Split) -> Metric:
    """The metric of this name for the classes of `valid`. Raises DataError if it is undefined on the rows."""
    metric = find(name, valid.classes.tolist())
    known = valid.targets != UNKNOWN
    if math.isnan(metric(valid.probs[0][known], valid.targets[known])):
        lacking = absent(valid.targets[known], valid.classes.tolist())
        raise DataError(
            f"{name} is not defined on the validation rows (none is {first_few(lacking)}); choose another --metric"
        )
    return metric


def _digest(members: Sequence[Run], plan: Plan, metric: str, sources: Sequence[Run], shape: tuple[int, ...]) -> str:
    """The sha256 of everything that determines the ensemble, without its name and the further test sets."""
    return sha256_json(
        {
            "pipeline": PIPELINE,
            "members": [[run.id, run.arch, sha256_file(run.path / "valid.npz")] for run in members],
            "sources": [run.id for run in sources],
            "rule": plan.rule.name,
            "metric": metric,
            "threshold": plan.threshold,
            "per_arch": plan.per_arch,
            "calibrate": plan.calibrate,
            **({"sample": SAMPLE} if _is_sampled(plan, *shape) else {}),
        }
    )


def _is_sampled(plan: Plan, m: int, n: int, k: int) -> bool:
    """Whether a rule, a temperature or the report may use a sample of the validation rows."""
    fits = plan.calibrate or plan.rule.name not in ("uniform", "accuracy")
    return m * n * k > 5_000_000 or (fits and (n > 5_000 or n * k > 500_000))


def _tests(
    evaluation: Evaluation, sources: Sequence[Run], classes: Texts, source: str
) -> tuple[dict[str, Predictions], list[str]]:
    """The ensemble's predictions of every test split that all `sources` have, and notes on the others.

    Raises MismatchedRuns if only some of `sources` predicted `test` itself.
    """
    runs_with = {split: [run for run in sources if run.has(split)] for run in sources for split in run.splits()}
    tests, notes = {}, []
    for split in sorted(
        (name for name in runs_with if name.split("-")[0] == "test"), key=lambda name: (name != "test", name)
    ):
        lacking = [run.id for run in sources if run not in runs_with[split]]
        if not lacking:
            _refuse_other_test(sources, split)
            items = gather(sources, split, classes)
            tests[split] = items.predictions(evaluation.fitted.predict_kept(items.probs), source)
        elif split == "test":
            raise MismatchedRuns(
                f"{first_few(lacking)} have no test predictions, {runs_with[split][0].id} has;"
                f" {_predicting_too(sources, runs_with[split])}, or name the runs to combine"
            )
        else:
            notes.append(f"{split} is left out: {first_few(lacking)} did not predict it")
    return tests, notes if tests else [
        *notes,
        "no member has test predictions, so there is nothing to submit",
    ]


def _predicting_too(sources: Sequence[Run], predicted: Sequence[Run]) -> str:
    """The command with which the remaining `sources` predict the test set of `predicted` too."""
    data = next((spec for run in predicted if (spec := data_of(run)) is not None), None)
    lacking = [run for run in sources if run not in predicted]
    return repredict_command(lacking, data, sources[0].path.parent)


def _refuse_changed_tests(sources: Sequence[Run], data: DataSpec | None, folder: Path) -> list[str]:
    """Notes on what could not be compared. Raises MismatchedRuns if images of a test set have changed since."""
    comparison = compared(sources, data, folder)
    if comparison.changed and data is not None:
        raise comparison.refusal(data, folder, "combine again as before")
    return [comparison.note] if comparison.note else []


def _refuse_other_test(sources: Sequence[Run], split: str) -> None:
    """Raises MismatchedRuns if the images of a test set changed between the predictions of two runs."""
    fingerprints = {run.id: run.record.data.tests.get(split) for run in sources}
    known = {run_id: fingerprint for run_id, fingerprint in fingerprints.items() if fingerprint is not None}
    differing = [run_id for run_id, fingerprint in known.items() if fingerprint != next(iter(known.values()))]
    if differing:
        raise MismatchedRuns(
            f"{first_few(differing)} predicted another {split} than {next(iter(known))} (its images changed);"
            f" {repredict_command(sources, None, sources[0].path.parent)}, after which all are of the new one, then"
            " combine again"
        )
