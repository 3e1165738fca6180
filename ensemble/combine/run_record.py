"""run.json and metrics.json of an ensemble, and the notes beside its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ensemble.combine.aligned import Split
from ensemble.combine.evaluate import Evaluation
from ensemble.combine.record import PIPELINE
from ensemble.core.errors import first_few
from ensemble.core.files import without_nan
from ensemble.core.predictions import UNKNOWN, Predictions, Texts
from ensemble.data.leaks import Leaks, merged
from ensemble.metrics import absent, score
from ensemble.runs.record import Kind
from ensemble.runs.run import Run
from ensemble.runs.writing import now, parent_facts, total


def metrics_of(evaluation: Evaluation, valid: Split, refits: bool) -> dict[str, Any]:
    """The entries of metrics.json beside the scores of the splits: apparent scores, honest ones with intervals."""
    known = evaluation.folds.known()  # in the order of the ids
    ensemble_scores = {name: ensemble_score for name, (ensemble_score, _, _) in evaluation.scores.items()}
    honest = {name: vars(entry.honest) for name, entry in ensemble_scores.items()}
    apparent = {
        "n": len(known),
        **score(evaluation.apparent[known], valid.targets[known]),
        **{name: entry.apparent for name, entry in ensemble_scores.items()},
    }
    return {
        "apparent": apparent,
        "honest": without_nan(honest),
        **({"score_of": "the members before the refit"} if refits else {}),
    }


def facts_of(
    name: str,
    digest: str,
    kept: Sequence[Run],
    sources: Sequence[Run],
    classes: Texts,
    tests: Mapping[str, Predictions],
) -> dict[str, Any]:
    """The content of run.json. kept: the members.  sources: the runs that predict, the same or their refits."""
    refits = [run for run in sources if run not in kept]
    # an import may know less of the data than a trained run
    data = next(
        (run.record.data for run in kept if not run.is_import and run.record.data.values), kept[0].record.data
    )
    test_fingerprints = _test_fingerprints(sources)
    return {
        "kind": Kind.ENSEMBLE,
        "name": name,
        "hash": digest,
        "pipeline": PIPELINE,
        "parents": [parent_facts(run) for run in (*kept, *refits)],
        "arch": None,
        "fold": None,
        "data": {
            "form": data.form,
            "fingerprint": data.fingerprint,
            "tests": {split: test_fingerprints[split] for split in tests if split in test_fingerprints},
        },
        "classes": classes.tolist(),
        **{cost: total([run.record.costs[cost] for run in sources]) for cost in kept[0].record.costs},
        "chosen_on_valid": chosen_on_valid(kept),
        "combined": now(),  # `created` stays when the same ensemble is combined again
    }


def _test_fingerprints(sources: Sequence[Run]) -> dict[str, Any]:
    """The fingerprint of each test set, from the runs that predict it: a refit instead of its member."""
    fingerprints: dict[str, Any] = {}
    for run in sources:
        fingerprints = {**run.record.data.tests, **fingerprints}
    return fingerprints


def chosen_on_valid(runs: Sequence[Run]) -> list[str]:
    """The settings of the runs that were already chosen on the validation rows."""
    return sorted({setting for run in runs for setting in run.record.chosen_on_valid})


def _valid_leaks(runs: Sequence[Run]) -> int:
    """The number of validation rows with a copy, or their group, in the training rows of any of `runs`."""
    leaks: Leaks = {}
    for run in runs:
        leaks = merged(leaks, run.record.leaks)
    counts = leaks.get("valid", {})
    return max(counts.get("exact", 0) + counts.get("near", 0), counts.get("group", 0))


def notes_of(
    evaluation: Evaluation, kept: Sequence[Run], refits: bool, valid: Split, threshold: float
) -> list[str]:
    """Caveats of the scores, one line each."""
    notes = []
    if lacking := absent(valid.targets, valid.classes.tolist()):
        notes.append(
            f"no validation row is {first_few(lacking)}: averages over classes are without, and nothing is known"
            " about how well it is told"
        )
    if not evaluation.fitted.selection.passed:
        notes.append(f"no member passed {threshold:g}; the best of each architecture were taken")
    if refits:
        notes.append("the score is that of the members before the refit; the test is predicted by the refits")
    if chosen := chosen_on_valid(kept):
        notes.append(f"chosen on the validation rows before: {', '.join(chosen)}; honest does not cover that")
    if leaking := _valid_leaks(kept):
        notes.append(
            f"validation rows with a copy, or their group, in train: {leaking} of {len(valid.targets)}; the scores"
            " are too good, the honest one too; `ens check` shows them"
        )
    if evaluation.left_out:
        m, k = valid.probs.shape[0], valid.probs.shape[2]
        notes.append(f"auto left out {', '.join(evaluation.left_out)}: too large for {m} members and {k} classes")
    for metric in evaluation.suspect:
        entry = evaluation.scores[metric][0]
        notes.append(
            f"something is wrong: the apparent {metric} {entry.apparent:.4f} is worse than the honest interval"
            f" ({entry.honest.bounds}); believe neither, and look for rows that are unlike the others"
        )
    if unknown := int((valid.targets == UNKNOWN).sum()):
        notes.append(f"{unknown} of {len(valid.targets)} validation rows have no target and are not scored")
    return notes
