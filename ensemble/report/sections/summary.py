"""Summary section: sentences derived from the numbers, and warnings that qualify them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ensemble.core.errors import abbreviated
from ensemble.core.estimate import Estimate
from ensemble.data.leaks import Leaks
from ensemble.report.classes import Labelled
from ensemble.report.sections.classes import ClassLine, calibration, most_confused
from ensemble.report.sections.data import copies_across_folds, leak_lines
from ensemble.report.sections.members import Parts
from ensemble.report.sections.scope import Evidence, Subject
from ensemble.report.sections.scores import Score
from ensemble.runs.leaderboard import headline
from ensemble.runs.record import Kind

SOFT_LABELS = "soft labels"
"""Entry of a student's `chosen_on_valid`; it has a warning of its own, as soft labels are more than a choice."""

_KINDS = {
    Kind.MEMBER: "a network{}",
    Kind.FOLDS: "several networks{}, each trained on a part of the data and scored on the part that it left out",
    Kind.REFIT: "a network{} that was trained once more, on the validation rows too",
    Kind.IMPORT: "a set of predictions{} that was made elsewhere",
    Kind.STUDENT: "a student{} that was taught by an ensemble",
}


def summary(
    subject: Subject, evidence: Evidence, scores: Sequence[Score], classes: Sequence[ClassLine], parts: Parts | None
) -> list[str]:
    """The sentences of the summary, most important first."""
    sentences = [_kind(subject, parts)]
    if evidence.rows is None:
        return [*sentences, *_unscored(subject, evidence)]
    sentences.append(_accuracy(subject, evidence, scores))
    sentences += _other_metric(scores, evidence)
    sentences += _optimism(scores)
    sentences += [] if parts is None else parts.against
    sentences += _weakest(classes, evidence.rows)
    sentences.append(calibration(evidence.rows))
    return sentences


def _kind(subject: Subject, parts: Parts | None) -> str:
    """Kind and architecture of the run, or members and rule of the ensemble."""
    run = subject.focus
    if parts is None:
        arch = f" of architecture {run.record.arch}" if run.record.arch else ""
        return f"{run.id} is {_KINDS.get(run.kind, 'a run{}').format(arch)}."
    ensemble, m = parts.ensemble, len(parts.members)
    chosen = " (chosen by `auto`)" if ensemble.requested_rule != ensemble.rule else ""
    temperature = "" if ensemble.temperature is None else f", and a temperature of {ensemble.temperature:.4f}"
    members = "one member" if m == 1 else f"{m} members"
    return f"{run.id} is an ensemble of {members}, combined by the rule {ensemble.rule}{chosen}{temperature}."


def _unscored(subject: Subject, evidence: Evidence) -> list[str]:
    reason = f"There is no score: {evidence.reason}."
    parent = headline(subject.focus)
    return [reason] if parent is None else [reason, f"{str(parent)[0].upper()}{str(parent)[1:]}."]


def _accuracy(subject: Subject, evidence: Evidence, scores: Sequence[Score]) -> str:
    rows = evidence.rows
    assert rows is not None
    n, hits = len(rows.targets), int((rows.predicted == rows.targets).sum())
    accuracy = next((score for score in scores if score.metric == "accuracy"), None)
    estimate = Estimate(hits / n) if accuracy is None else accuracy
    share = estimate.value
    description = f"{evidence.description}{_unseen(subject)}"
    # with few rows the honest score is a mean over several fold assignments, and so not `hits` divided by n
    single_division = round(share * n, 6) == hits
    correct = (
        f"{hits:,} of {n:,} {description}, {100 * share:.1f} %"
        if single_division
        else f"{100 * share:.1f} % of {n:,} {description}"
    )
    counts = np.bincount(rows.targets, minlength=len(rows.classes))
    most_frequent = int(counts.argmax())
    return (
        f"It is right on {correct}: for"
        f" images of the same kind expect {_range(estimate)} (95 % interval). Whoever always says"
        f" {rows.classes[most_frequent]}, the most frequent class, is right on"
        f" {100 * counts[most_frequent] / n:.1f} %."
    )


def _unseen(subject: Subject) -> str:
    """Clause that the networks were not trained on the rows; empty with imports, whose training is unknown."""
    kinds = {run.kind for run in subject.members}
    if Kind.IMPORT in kinds:
        return ""
    return " that it has not learnt from" + (", but for its soft labels" if Kind.STUDENT in kinds else "")


def _range(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return "what nobody can say"
    return f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f} %"


def _other_metric(scores: Sequence[Score], evidence: Evidence) -> list[str]:
    """The requested metric, unless it is the accuracy."""
    if not scores or scores[0].metric == "accuracy":
        return []
    score = scores[0]
    return [f"Its {score.metric} is {score}; {'more' if score.higher else 'less'} is better."]


def _optimism(scores: Sequence[Score]) -> list[str]:
    if not scores or scores[0].apparent is None or scores[0].optimism is None:
        return []
    score, gap = scores[0], scores[0].optimism or 0.0
    difference = "the same" if abs(gap) < 5e-5 else f"{abs(gap):.4f} {'better' if gap > 0 else 'worse'}"
    return [
        f"Fitted and scored on the same rows it would look {difference} ({score.metric} {score.apparent:.4f}): the"
        f" honest {score.value:.4f} is of rows that had no part in the choice of members, weights and temperature."
    ]


def _weakest(classes: Sequence[ClassLine], rows: Labelled) -> list[str]:
    known = [line for line in classes if line.scores.rows]
    if len(known) < 2:
        return []
    worst = min(known, key=lambda line: line.scores.recall)
    scores = worst.scores
    sentence = (
        f"It finds {scores.name} the least often: {scores.tp} of {scores.rows}, {100 * scores.recall:.1f} %"
        f" ({_range(worst.recall)})."
    )
    confused = next((pair for pair in most_confused(rows) if pair.true == scores.name), None)
    return [sentence + (f" {confused.count} of the others it calls {confused.predicted}." if confused else "")]


def warnings(subject: Subject, evidence: Evidence, leaks: Leaks, chosen: Sequence[str]) -> list[str]:
    """Sentences on everything that biases the numbers or makes them less certain; may be empty."""
    sentences = [f"Images leak. {line}; the score there looks too good." for line in leak_lines(leaks)]
    sentences += _across_folds(subject)
    sentences += _unverifiable(subject)
    sentences += [f"{run.id}: {line}." for run in subject.members for line in run.record.warnings]
    chosen = [choice for choice in chosen if choice != SOFT_LABELS]
    if chosen:
        sentences.append(
            f"Chosen on the validation rows before: {', '.join(chosen)}. The score does not cover that, and looks a"
            " little too good."
        )
    refitted = subject.focus.metrics.get("score_of")
    if refitted:
        sentences.append(
            f"The score is that of {refitted}; the test is predicted by the refits, which nobody has scored."
        )
    if evidence.split != "valid":
        sentences.append(f"There are no labelled validation rows; every score here is of {evidence.split}.")
    if evidence.rows is not None:
        sentences += _few(evidence.rows)
    return [*sentences, *(note[0].upper() + note[1:] + "." for note in (*subject.notes, *evidence.notes))]


def _unverifiable(subject: Subject) -> list[str]:
    """Warnings on students and imports, whose independence from the rows is not guaranteed."""
    students = [run.id for run in subject.members if run.kind is Kind.STUDENT]
    imported = [run.id for run in subject.members if run.is_import]
    sentences = []
    if students:
        sentences.append(
            f"Taught by soft labels: {abbreviated(students)}. The members that gave them had these rows to learn"
            " from, so that the score is an upper bound, perhaps far too high; believe that of a labelled test."
        )
    if imported:
        sentences.append(
            f"Made elsewhere: {abbreviated(imported)}. That nothing had learnt from these rows, or was chosen on"
            " them, is taken on trust."
        )
    return sentences


def _across_folds(subject: Subject) -> list[str]:
    counts = {run.id: count for run in subject.members if (count := copies_across_folds(run))}
    if not counts:
        return []
    each = abbreviated(f"{count} in {name}" for name, count in counts.items())
    return [
        f"Pairs of copies lie in different folds ({each}): a fold is scored on what it has learnt, which looks too"
        " good. `ens check --groups` lists what to keep in one fold."
    ]


def _few(rows: Labelled) -> list[str]:
    counts = np.bincount(rows.targets, minlength=len(rows.classes))
    absent = [name for name, count in zip(rows.classes, counts, strict=True) if not count]
    few = [name for name, count in zip(rows.classes, counts, strict=True) if 0 < count < 10]
    sentences = []
    if absent:
        sentences.append(f"No row is {abbreviated(absent)}: how well that is told nobody knows.")
    if few:
        sentences.append(f"Fewer than ten rows are {abbreviated(few)}: what is said of these may well be chance.")
    return sentences
