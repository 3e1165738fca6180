"""A student judged: what it keeps of its ensemble's gain, and what each costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ensemble.combine.gain import Kept, kept
from ensemble.combine.record import read_ensemble
from ensemble.combine.teaching import rows_of
from ensemble.errors import DataError
from ensemble.files import without_nan, write_json
from ensemble.metrics import find
from ensemble.predictions import UNKNOWN, Predictions, align, stacked
from ensemble.runs.named import named_run
from ensemble.runs.run import SCHEMA, Run


@dataclass(frozen=True)
class Line:
    """One side. score: on the validation rows.  seconds_per_image, bytes: of what predicts.  None: unknown.

    A baseline of folds is as dear as one of them: with folds the student is one network too.
    """

    name: str
    run: str
    score: float
    seconds_per_image: float | None
    bytes: float | None


@dataclass(frozen=True)
class Distillation:
    """lines: ensemble, student, baseline.  valid: on rows that neither student nor baseline learnt from,
    but the members did that gave the soft labels of the others: what the student keeps there is an upper bound.

    test: on the labelled test rows, None where there are none; the mean of the folds speaks where there are folds.
    """

    lines: tuple[Line, Line, Line]
    valid: Kept
    test: Kept | None
    notes: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        found = {
            "schema": SCHEMA,
            "runs": [asdict(line) for line in self.lines],
            "valid": self.valid.facts(),
            "test": None if self.test is None else self.test.facts(),
            "notes": list(self.notes),
        }
        plain: dict[str, Any] = without_nan(found)
        return plain


def judge(ensemble: Run, student: Run, baseline: Run) -> Distillation:
    """Score all three on the same rows by the ensemble's metric; the student's run keeps it as distilled.json.

    Raises DataError where no row has a label.
    """
    name = read_ensemble(ensemble).metric
    teacher, taught, plain = (run.predictions("valid") for run in (ensemble, student, baseline))
    valid = _kept(name, teacher, taught, plain, flattered=True)
    if valid is None:
        raise DataError(f"{student.id} has no labelled rows to be scored on")
    test = _test(name, ensemble, student, baseline)
    scores = (valid.ensemble, valid.student, valid.baseline)
    first, second, third = (
        Line(name, run.id, score, _cost(run, "seconds_per_image"), _cost(run, "bytes"))
        for name, run, score in zip(
            ("ensemble", "student", "baseline"), (ensemble, student, baseline), scores, strict=True
        )
    )
    found = Distillation((first, second, third), valid, test, tuple(_notes(student, test)))
    write_json(student.path / "distilled.json", found.facts())
    return found


def _cost(run: Run, what: str) -> float | None:
    cost = run.facts.get(what)
    return cost / len(run.facts["parents"]) if cost is not None and run.kind == "folds" else cost


def _kept(
    name: str, ensemble: Predictions, student: Predictions, baseline: Predictions, *, flattered: bool = False
) -> Kept | None:
    """On the student's rows, which the ensemble may have more of; None where none has a label."""
    ids, classes = student.ids, student.classes
    ours, other = rows_of(ensemble, ids, classes), align(baseline, ids, classes)
    targets = student.targets
    if targets is None or not student.labelled.any():
        return None
    known = targets != UNKNOWN
    groups = None if student.groups is None else student.groups[known]
    metric = find(name, classes.tolist())
    first, second, third = (one.probs[known] for one in (ours, student, other))
    return kept(metric, first, second, third, targets[known], groups, flattered=flattered)


def _test(name: str, ensemble: Run, student: Run, baseline: Run) -> Kept | None:
    if not all(run.has("test") for run in (ensemble, student, baseline)):
        return None
    return _kept(name, ensemble.predictions("test"), _of_folds(student), baseline.predictions("test"))


def _of_folds(student: Run) -> Predictions:
    """What the baseline, a mean of folds where there are folds, is compared with."""
    own = student.predictions("test")
    if not student.pools_folds:
        return own
    parents: Sequence[dict[str, Any]] = student.facts["parents"][1:]
    folds = [named_run(student.path.parent, str(parent["id"])).predictions("test") for parent in parents]
    aligned = stacked([align(one, own.ids, own.classes) for one in folds])
    return replace(own, probs=aligned.mean(axis=0, dtype=np.float64).astype(np.float32))


def _notes(student: Run, test: Kept | None) -> list[str]:
    folds = student.pools_folds
    return [
        *(["the student is one network for all rows; scored are its folds and the baseline's"] if folds else []),
        "the members that gave its soft labels had these rows to learn from, and something of the rows' own labels"
        " reaches the student that way: its score here is too good, the more so the more the members remember"
        + ("; believe the test" if test else "; a labelled test set would tell how good it is"),
    ]
