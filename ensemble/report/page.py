"""HTML page of `ens report` on a run, an ensemble or all runs of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ensemble.core import __version__, table
from ensemble.core.files import without_nan
from ensemble.data.leaks import Leaks, merged, total
from ensemble.report.html import rendered
from ensemble.report.sections.classes import ClassLine, diagrams, lines, matrix, most_confused
from ensemble.report.sections.data import data
from ensemble.report.sections.members import Parts, agreement, parts
from ensemble.report.sections.mistakes import COUNT, mistakes
from ensemble.report.sections.reproduce import reproduction
from ensemble.report.sections.scope import Evidence, Subject
from ensemble.report.sections.scores import Score, bars, scale, scores, tests
from ensemble.report.sections.summary import summary, warnings
from ensemble.report.sections.sweeps import sweeps
from ensemble.report.sections.training import trainings
from ensemble.runs.leaderboard import NOT_MEDICAL, Headline, Row, headline, leaderboard
from ensemble.runs.run import all_runs


@dataclass(frozen=True)
class Page:
    """html: the whole file.  sentences: its summary.  warnings: its caveats.  facts: its main numbers, for JSON."""

    html: str
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]
    facts: dict[str, Any]


def report_page(
    subject: Subject, evidence: Evidence, *, pictures: int = COUNT, undrawn: Sequence[str] = ()
) -> Page:
    """The page on `subject`, with at most `pictures` mistakes. Raises DataError for a broken run.

    undrawn: per run without Grad-CAM maps, a line with the reason. Deterministic: equal runs give equal bytes.
    """
    known = leaderboard(all_runs(subject.folder))
    board = [row for row in known if row.id in {run.id for run in subject.runs}]
    focus_row = next(row for row in board if row.id == subject.focus.id)
    members = {run.id for run in subject.members} or {subject.focus.id}
    leaks: Leaks = {}
    # only the leaks that members recorded: a folds run is scored on its held-out rows, not on the valid split
    for row in board:
        leaks = merged(leaks, row.leaks if row.id in members else {})
    evaluation = {subject.focus.id, *members}
    chosen = sorted({choice for row in board if row.id in evaluation for choice in row.chosen_on_valid})
    record, score_rows = parts(subject), scores(subject, evidence)
    classes = lines(evidence.rows) if evidence.rows else []
    sentences = summary(subject, evidence, score_rows, classes, record)
    caveats = warnings(subject, evidence, leaks, chosen)
    names = evidence.rows.classes if evidence.rows else subject.focus.record.classes
    values = {
        "version": __version__,
        "notice": NOT_MEDICAL,
        "summary": sentences,
        "warnings": caveats,
        "classes": names,
        "board": board,
        "scores": score_rows,
        "parts": record,
        "undrawn": undrawn,
        "mistakes": mistakes(subject, evidence, pictures),
        "data": data(subject.folder, subject.focus.fingerprint, names, leaks),
        "total": total,
        "amounts": table,
        **_of_subject(subject),
        **_of_rows(subject, evidence, score_rows, classes),
    }
    return Page(
        rendered("report.html", values),
        tuple(sentences),
        tuple(caveats),
        _facts(subject, evidence, focus_row, headline(subject.focus), record, chosen, leaks),
    )


def _of_subject(subject: Subject) -> dict[str, Any]:
    """Values of the template that do not depend on the labelled rows."""
    trained, trained_total = trainings(subject)
    return {
        "name": subject.name,
        "subject": subject,
        "focus": subject.focus,
        "kind": subject.focus.kind,
        "medical": subject.medical,
        "tests": list(tests(subject.focus)),
        "trained": trained,
        "of_trained": trained_total,
        "sweeps": sweeps(subject.folder, subject.focus.fingerprint, [run.id for run in subject.runs]),
        "again": reproduction(subject),
    }


def _of_rows(
    subject: Subject, evidence: Evidence, score_rows: Sequence[Score], classes: Sequence[ClassLine]
) -> dict[str, Any]:
    """Values of the template that describe the labelled rows."""
    rows, accuracy_bars = evidence.rows, bars(subject, evidence)
    split_metrics = subject.focus.metrics.get(evidence.split) or {}
    return {
        "evidence": evidence,
        "repeated": any(score.value != split_metrics.get(score.metric, score.value) for score in score_rows),
        "bars": accuracy_bars,
        "scale": scale(accuracy_bars) if accuracy_bars else (0.0, 1.0),
        "matrix": matrix(rows) if rows else None,
        "confused": most_confused(rows) if rows else [],
        "lines": classes,
        "diagrams": diagrams(rows, classes) if rows else None,
        "agreement": (
            agreement([run.id for run in subject.members], evidence.members) if subject.ensemble else None
        ),
    }


def _facts(
    subject: Subject,
    evidence: Evidence,
    focus_row: Row,
    score: Headline | None,
    record: Parts | None,
    chosen: Sequence[str],
    leaks: Leaks,
) -> dict[str, Any]:
    members = [] if record is None else [member.facts() for member in record.members]
    facts: dict[str, Any] = without_nan(
        {
            "run": subject.focus.id,
            "kind": subject.focus.kind,
            "score": None if score is None else score.facts(),
            "accuracy": focus_row.accuracy,
            "apparent": focus_row.apparent,
            "why_no_score": evidence.reason,
            "rule": None if record is None else record.ensemble.rule,
            "members": members,
            "runs": [run.id for run in subject.runs],
            "chosen_on_valid": list(chosen),
            "leaks": leaks,
            "medical": subject.medical,
        }
    )
    return facts
