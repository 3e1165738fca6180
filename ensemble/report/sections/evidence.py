"""The labelled rows that a report's scores, diagrams and pictures are about."""

from __future__ import annotations

from dataclasses import dataclass

from ensemble.errors import DataError, one_line
from ensemble.report.classes import Labelled, labelled
from ensemble.report.sections.subject import Subject, parents
from ensemble.runs.run import Run


@dataclass(frozen=True)
class Evidence:
    """rows: of the run that is looked at; None where it has no label, and `why` says so.

    members: the same rows of each member in the subject's order, empty where they are not the same rows.
    split: what the rows are.  notes: what a reader must know.  folds: whether each row is one that a fold left out.
    """

    rows: Labelled | None
    members: tuple[Labelled, ...]
    split: str
    why: str = ""
    notes: tuple[str, ...] = ()
    folds: bool = False

    @property
    def named(self) -> str:
        """`validation rows`, `out-of-fold rows`, `rows of test-night`."""
        if self.split != "valid":
            return f"rows of {self.split}"
        return "out-of-fold rows" if self.folds else "validation rows"


def evidence(subject: Subject) -> Evidence:
    """The validation rows, else the first labelled test's."""
    focus, members = subject.focus, subject.members
    split = next((name for name in focus.splits() if focus.predictions(name).labelled.any()), None)
    if split is None:
        return Evidence(None, (), "valid", _why(focus))
    folds = any(run.pools_folds for run in (focus, *members))
    try:
        found = labelled([focus, *members] if subject.ensemble else [focus], split)
    except DataError as error:
        note = f"the members' rows are not those of {focus.id} any more: {one_line(error)}"
        return Evidence(labelled([focus], split)[0], (), split, notes=(note,), folds=folds)
    own = tuple(found[1:]) if subject.ensemble else (found[0],)
    return Evidence(found[0], own, split, folds=folds)


def _why(run: Run) -> str:
    if run.kind == "refit":
        before = " and ".join(one.id for one in parents(run)) or "the member before it"
        return (
            f"{run.id} was trained on the validation rows too, so that no rows are left that could score it;"
            f" what can be known is the score of {before}"
        )
    return f"no row that {run.id} predicted has a label, so that nobody can say how often it is right"
