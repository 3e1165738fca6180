"""HTML page of `ens report` on a run, an ensemble or all runs of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ensemble.core import __version__, table
from ensemble.core.files import without_nan
from ensemble.data.leaks import Leaks, merged, total
from ensemble.report.html import rendered
from ensemble.report.sections.classes import diagrams, lines, matrix, most_confused
from ensemble.report.sections.data import data
from ensemble.report.sections.members import Parts, agreement, parts
from ensemble.report.sections.mistakes import COUNT, mistakes
from ensemble.report.sections.reproduce import reproduction
from ensemble.report.sections.scope import Evidence, Subject
from ensemble.report.sections.scores import bars, scale, scores, tests
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
    leaks: Leaks = {}
    # only the leaks that members recorded: a folds run is scored on its held-out rows, not on the valid split

    members = {run.id for run in subject.members} or {subject.focus.id}
    for row in board:
        leaks = merged(leaks, row.leaks if row.id in members else {})
    evaluation = {subject.focus.id, *members}
    chosen = sorted({choice for row in board if row.id in evaluation for choice in row.chosen_on_valid})
    rows = evidence.rows
    record, score_rows = parts(subject), scores(subject, evidence)
    classes = lines(rows) if rows else []
    sentences = summary(subject, evidence, score_rows, classes, record)
    caveats = warnings(subject, evidence, leaks, chosen)
    names = rows.classes if rows else subject.focus.record.classes
    trained, trained_total = trainings(subject)
    accuracy_bars = bars(subject, evidence)
    values = {
        "name": subject.name,
        "version": __version__,
        "subject": subject,
        "focus": subject.focus,
        "kind": subject.focus.kind,
        "medical": subject.medical,
        "notice": NOT_MEDICAL,
        "summary": sentences,
        "warnings": caveats,
        "classes": names,
        "board": board,
        "scores": score_rows,
        "repeated": any(
            score.value != subject.focus.metrics[evidence.split].get(score.metric, score.value)
            for score in score_rows
        ),
        "tests": list(tests(subject.focus)),
        "bars": accuracy_bars,
        "scale": scale(accuracy_bars) if accuracy_bars else (0.0, 1.0),
        "parts": record,
        "trained": trained,
        "of_trained": trained_total,
        "evidence": evidence,
        "matrix": matrix(rows) if rows else None,
        "confused": most_confused(rows) if rows else [],
        "lines": classes,
        "diagrams": diagrams(rows, classes) if rows else None,
        "mistakes": mistakes(subject, evidence, pictures),
        "undrawn": undrawn,
        "agreement": (
            agreement([run.id for run in subject.members], evidence.members) if subject.ensemble else None
        ),
        "sweeps": sweeps(subject.folder, subject.focus.fingerprint, [run.id for run in subject.runs]),
        "data": data(subject.folder, subject.focus.fingerprint, names, leaks),
        "again": reproduction(subject),
        "total": total,
        "amounts": table,
    }
    return Page(
        rendered("report.html", values),
        tuple(sentences),
        tuple(caveats),
        _facts(subject, evidence, focus_row, headline(subject.focus), record, chosen, leaks),
    )


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
