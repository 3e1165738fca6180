"""The summary: a few sentences that follow from the numbers, and what must be said beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ensemble.core.errors import abbreviated
from ensemble.data.leaks import Leaks
from ensemble.report.classes import Labelled
from ensemble.report.sections.classes import ClassLine, calibration, most_confused
from ensemble.report.sections.data import copies_across_folds, leak_lines
from ensemble.report.sections.members import Parts
from ensemble.report.sections.scope import Evidence, Subject
from ensemble.report.sections.scores import Score
from ensemble.runs.leaderboard import headline

SOFT_LABELS = "soft labels"
"""What a student's record has among what was chosen on validation rows; it is more than that, and is said apart."""

_KINDS = {
    "member": "a network{}",
    "folds": "several networks{}, each trained on a part of the data and scored on the part that it left out",
    "refit": "a network{} that was trained once more, on the validation rows too",
    "import": "a set of predictions{} that was made elsewhere",
    "student": "a student{} that was taught by an ensemble",
}


def summary(
    subject: Subject, found: Evidence, scores: Sequence[Score], classes: Sequence[ClassLine], parts: Parts | None
) -> list[str]:
    """What a reader should take away, the most important first."""
    said = [_what(subject, parts)]
    if found.rows is None:
        return [*said, *_unscored(subject, found)]
    said.append(_right(subject, found, scores))
    said += _other_metric(scores, found)
    said += _flattery(scores)
    said += [] if parts is None else list(parts.against)
    said += _weakest(classes, found.rows)
    said.append(calibration(found.rows))
    return said


def _what(subject: Subject, parts: Parts | None) -> str:
    run = subject.focus
    if parts is None:
        arch = f" of architecture {run.facts['arch']}" if run.facts.get("arch") else ""
        return f"{run.id} is {_KINDS.get(run.kind, 'a run{}').format(arch)}."
    m = len(parts.members)
    chosen = " (chosen by `auto`)" if parts.asked != parts.rule else ""
    heat = "" if parts.temperature is None else f", and a temperature of {parts.temperature:.4f}"
    members = "one member" if m == 1 else f"{m} members"
    return f"{run.id} is an ensemble of {members}, combined by the rule {parts.rule}{chosen}{heat}."


def _unscored(subject: Subject, found: Evidence) -> list[str]:
    why = f"There is no score: {found.why}."
    parent = headline(subject.focus)
    return [why] if parent is None else [why, f"{str(parent)[0].upper()}{str(parent)[1:]}."]


def _right(subject: Subject, found: Evidence, scores: Sequence[Score]) -> str:
    rows = found.rows
    assert rows is not None
    n, hits = len(rows.targets), int((rows.predicted == rows.targets).sum())
    accuracy = next((one for one in scores if one.metric == "accuracy"), None)
    share, low, high = (hits / n, None, None) if accuracy is None else (accuracy.value, accuracy.low, accuracy.high)
    which = f"{found.named}{_unseen(subject)}"
    # the honest score of few rows is a mean over several divisions into folds
    one_division = round(share * n, 6) == hits
    right = (
        f"{hits:,} of {n:,} {which}, {100 * share:.1f} %"
        if one_division
        else f"{100 * share:.1f} % of {n:,} {which}"
    )
    counts = np.bincount(rows.targets, minlength=len(rows.classes))
    common = int(counts.argmax())
    return (
        f"It is right on {right}: for"
        f" images of the same kind expect {_range(low, high)} (95 % interval). Whoever always says"
        f" {rows.classes[common]}, the most frequent class, is right on {100 * counts[common] / n:.1f} %."
    )


def _unseen(subject: Subject) -> str:
    """What the rows are to the networks; of what was made elsewhere nobody can tell."""
    kinds = {run.kind for run in subject.members}
    if "import" in kinds:
        return ""
    return " that it has not learnt from" + (", but for its soft labels" if "student" in kinds else "")


def _range(low: float | None, high: float | None) -> str:
    return "what nobody can say" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f} %"


def _other_metric(scores: Sequence[Score], found: Evidence) -> list[str]:
    """The metric that was asked for, where that is not the accuracy."""
    if not scores or scores[0].metric == "accuracy":
        return []
    one = scores[0]
    bounds = "" if one.low is None else f" (95 % interval {one.low:.4f} to {one.high:.4f})"
    return [f"Its {one.metric} is {one.value:.4f}{bounds}; {'more' if one.higher else 'less'} is better."]


def _flattery(scores: Sequence[Score]) -> list[str]:
    if not scores or scores[0].apparent is None or scores[0].flattery is None:
        return []
    one, gap = scores[0], scores[0].flattery or 0.0
    word = "the same" if abs(gap) < 5e-5 else f"{abs(gap):.4f} {'better' if gap > 0 else 'worse'}"
    return [
        f"Fitted and scored on the same rows it would look {word} ({one.metric} {one.apparent:.4f}): the honest"
        f" {one.value:.4f} is of rows that had no part in the choice of members, weights and temperature."
    ]


def _weakest(classes: Sequence[ClassLine], rows: Labelled) -> list[str]:
    known = [line for line in classes if line.scores.rows]
    if len(known) < 2:
        return []
    worst = min(known, key=lambda line: line.scores.recall)
    one = worst.scores
    said = (
        f"It finds {one.name} the least often: {one.tp} of {one.rows}, {100 * one.recall:.1f} %"
        f" ({_range(worst.low, worst.high)})."
    )
    mistaken = next((pair for pair in most_confused(rows) if pair.true == one.name), None)
    return [said + (f" {mistaken.count} of the others it calls {mistaken.said}." if mistaken else "")]


def warnings(subject: Subject, found: Evidence, leaks: Leaks, chosen: Sequence[str]) -> list[str]:
    """What makes the numbers less sure than they look; nothing where nothing does."""
    said = [f"Images leak. {line}; the score there looks too good." for line in leak_lines(leaks)]
    said += _across_folds(subject)
    said += _on_trust(subject)
    said += [f"{run.id}: {line}." for run in subject.members for line in run.facts.get("warnings", [])]
    chosen = [what for what in chosen if what != SOFT_LABELS]
    if chosen:
        said.append(
            f"Chosen on the validation rows before: {', '.join(chosen)}. The score does not cover that, and looks a"
            " little too good."
        )
    refitted = subject.focus.metrics.get("score_of")
    if refitted:
        said.append(
            f"The score is that of {refitted}; the test is predicted by the refits, which nobody has scored."
        )
    if found.split != "valid":
        said.append(f"There are no labelled validation rows; every score here is of {found.split}.")
    if found.rows is not None:
        said += _few(found.rows)
    return [*said, *(note[0].upper() + note[1:] + "." for note in (*subject.notes, *found.notes))]


def _on_trust(subject: Subject) -> list[str]:
    students = [run.id for run in subject.members if run.kind == "student"]
    imported = [run.id for run in subject.members if run.kind == "import"]
    said = []
    if students:
        said.append(
            f"Taught by soft labels: {abbreviated(students)}. The members that gave them had these rows to learn"
            " from, so that the score is an upper bound, perhaps far too high; believe that of a labelled test."
        )
    if imported:
        said.append(
            f"Made elsewhere: {abbreviated(imported)}. That nothing had learnt from these rows, or was chosen on"
            " them, is taken on trust."
        )
    return said


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
    none = [name for name, count in zip(rows.classes, counts, strict=True) if not count]
    few = [name for name, count in zip(rows.classes, counts, strict=True) if 0 < count < 10]
    said = []
    if none:
        said.append(f"No row is {abbreviated(none)}: how well that is told nobody knows.")
    if few:
        said.append(f"Fewer than ten rows are {abbreviated(few)}: what is said of these may well be chance.")
    return said
