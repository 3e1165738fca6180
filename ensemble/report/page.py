"""`ens report`: a run, an ensemble or a whole data set as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ensemble.core import table
from ensemble.core.files import without_nan
from ensemble.core.version import __version__
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
    """html: the whole file.  sentences: its summary.  warnings: what stands beside it.  facts: its main numbers."""

    html: str
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]
    facts: dict[str, Any]


def report_page(subject: Subject, found: Evidence, *, pictures: int = COUNT, undrawn: Sequence[str] = ()) -> Page:
    """The page on `subject`, with at most `pictures` mistakes. Raises DataError for a broken run.

    undrawn: a line for each run without Grad-CAM pictures, with the reason. The same runs give the same bytes.
    """
    known = leaderboard(all_runs(subject.folder))
    board = [row for row in known if row.id in {run.id for run in subject.runs}]
    own = next(row for row in board if row.id == subject.focus.id)
    leaks: Leaks = {}
    # of folds the members know more: what lies in valid is not what they were scored on
    members = {run.id for run in subject.members} or {subject.focus.id}
    for row in board:
        leaks = merged(leaks, row.leaks if row.id in members else {})
    evaluation = {subject.focus.id, *members}
    chosen = sorted({what for row in board if row.id in evaluation for what in row.chosen_on_valid})
    rows = found.rows
    record, scored = parts(subject), scores(subject, found)
    classes = lines(rows) if rows else []
    said = summary(subject, found, scored, classes, record)
    beside = warnings(subject, found, leaks, chosen)
    names = rows.classes if rows else tuple(subject.focus.facts.get("classes") or ())
    trained, of_trained = trainings(subject)
    bars_found = bars(subject, found)
    values = {
        "name": subject.name,
        "version": __version__,
        "subject": subject,
        "focus": subject.focus,
        "kind": subject.focus.kind,
        "medical": subject.medical,
        "notice": NOT_MEDICAL,
        "summary": said,
        "warnings": beside,
        "classes": names,
        "board": board,
        "scores": scored,
        "repeated": any(
            one.value != subject.focus.metrics[found.split].get(one.metric, one.value) for one in scored
        ),
        "tests": list(tests(subject.focus)),
        "bars": bars_found,
        "scale": scale(bars_found) if bars_found else (0.0, 1.0),
        "parts": record,
        "trained": trained,
        "of_trained": of_trained,
        "evidence": found,
        "matrix": matrix(rows) if rows else None,
        "confused": most_confused(rows) if rows else [],
        "lines": classes,
        "diagrams": diagrams(rows, classes) if rows else None,
        "mistakes": mistakes(subject, found, pictures),
        "undrawn": undrawn,
        "agreement": agreement([run.id for run in subject.members], found.members) if subject.ensemble else None,
        "sweeps": sweeps(subject.folder, subject.focus.fingerprint, [run.id for run in subject.runs]),
        "data": data(subject.folder, subject.focus.fingerprint, names, leaks),
        "again": reproduction(subject),
        "total": total,
        "amounts": table,
    }
    return Page(
        rendered("report.html", values),
        tuple(said),
        tuple(beside),
        _facts(subject, found, own, headline(subject.focus), record, chosen, leaks),
    )


def _facts(
    subject: Subject,
    found: Evidence,
    own: Row,
    score: Headline | None,
    record: Parts | None,
    chosen: Sequence[str],
    leaks: Leaks,
) -> dict[str, Any]:
    members = [] if record is None else [asdict(one) for one in record.members]
    facts: dict[str, Any] = without_nan(
        {
            "run": subject.focus.id,
            "kind": subject.focus.kind,
            "score": None if score is None else asdict(score),
            "accuracy": own.accuracy,
            "apparent": own.apparent,
            "why_no_score": found.why,
            "rule": None if record is None else record.rule,
            "members": members,
            "runs": [run.id for run in subject.runs],
            "chosen_on_valid": list(chosen),
            "leaks": leaks,
            "medical": subject.medical,
        }
    )
    return facts
