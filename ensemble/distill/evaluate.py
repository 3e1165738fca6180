"""A student evaluated: how much of its ensemble's gain it keeps, and what each costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ensemble.combine.record import read_ensemble
from ensemble.core.errors import DataError
from ensemble.core.files import without_nan, write_json
from ensemble.core.predictions import UNKNOWN, Floats, Ints, Predictions, Texts, Wide, align, stacked
from ensemble.distill.teacher import rows_of
from ensemble.metrics import Metric, find
from ensemble.runs.origin import named_run
from ensemble.runs.run import SCHEMA, Run
from ensemble.stats.comparison import DRAWN_ROWS, FEWEST_DRAWS, MOST_DRAWS, compare
from ensemble.stats.intervals import Difference, difference, drawn_scores, group_codes, units_of
from ensemble.stats.intervals import student as student_t


@dataclass(frozen=True)
class RetainedGain:
    """Scores of an ensemble, of a student of it, and of the baseline: the same network without the teacher.

    gain: ensemble less baseline, positive where the ensemble is better.  learnt: student less baseline.
    share: learnt / gain; None where there is no gain.  low, high: its 95 % interval; None where the gain could be
    noise, so that any share could be true.
    """

    metric: str
    rows: int
    ensemble: float
    student: float
    baseline: float
    gain: Difference
    learnt: Difference
    share: float | None
    low: float | None
    high: float | None
    sentences: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        scores = {"ensemble": self.ensemble, "student": self.student, "baseline": self.baseline}
        gaps = {"gain": vars(self.gain), "learnt": vars(self.learnt)}
        share = {"share": self.share, "low": self.low, "high": self.high}
        return {"metric": self.metric, "rows": self.rows, **scores, **gaps, **share, "says": list(self.sentences)}


def retained_gain(
    metric: Metric,
    ensemble: Floats,
    student: Floats,
    baseline: Floats,
    targets: Ints,
    groups: Texts | None,
    *,
    flattered: bool = False,
) -> RetainedGain:
    """What `student` keeps of the gain: probs (n, k) of the same rows, targets (n,) all known, groups or None.

    flattered: whether something of these targets may have reached the student, so that it keeps this much at most.
    """
    gain = difference(metric, ensemble, baseline, targets, groups).gain(metric)
    learnt = difference(metric, student, baseline, targets, groups).gain(metric)
    share = learnt.value / gain.value if gain.value > 0 else None
    codes = None if groups is None else group_codes(groups)
    count = min(MOST_DRAWS, max(FEWEST_DRAWS, DRAWN_ROWS // len(targets)))
    drawn = [drawn_scores(metric, probs, targets, codes, count) for probs in (ensemble, student, baseline)]
    spread = np.cov(np.stack([drawn[1] - drawn[2], drawn[0] - drawn[2]])[:, np.isfinite(sum(drawn))])
    bounds = None
    if gain.value > 0 and np.isfinite(spread).all():
        bounds = ratio_interval(learnt.value, gain.value, spread, student_t(units_of(targets, codes)))
    low, high = bounds or (None, None)
    against = compare(metric, [(student, baseline)], targets, groups, "the baseline").sentence
    said = (
        _sentence(share, low, high, gain, metric.name, len(targets), flattered),
        f"Student{', flattered' if flattered else ''}: {_lower(against)}",
    )
    ours, own, plain = (metric(one, targets) for one in (ensemble, student, baseline))
    return RetainedGain(metric.name, len(targets), ours, own, plain, gain, learnt, share, low, high, said)


def ratio_interval(above: float, below: float, spread: Wide, errors: float) -> tuple[float, float] | None:
    """The interval of above / below, two normal estimates with covariances `spread` (2, 2) (Fieller 1954).

    errors: standard errors to either side, 1.96 for 95 %. None where `below` is not told from nothing: then no
    ratio can be excluded on one side at least.
    """
    square = below**2 - errors**2 * spread[1, 1]
    if square <= 0:
        return None
    middle = above * below - errors**2 * spread[0, 1]
    rest = above**2 - errors**2 * spread[0, 0]
    half = math.sqrt(max(0.0, middle**2 - square * rest))
    return (float(middle) - half) / float(square), (float(middle) + half) / float(square)


def _sentence(
    share: float | None,
    low: float | None,
    high: float | None,
    gain: Difference,
    metric: str,
    rows: int,
    flattered: bool,
) -> str:
    found = f"{gain.value:+.4f} {metric}, 95 % interval {gain.low:+.4f} to {gain.high:+.4f}, on {rows} images"
    if share is None:
        return f"The ensemble is no better than the baseline ({found}), so there is no gain to keep."
    if low is None or high is None:
        return (
            f"The ensemble's gain over the baseline could be noise ({found}), so a share of it"
            f" ({100 * share:.0f} % here) says nothing."
        )
    most = "at most " if flattered else ""
    return (
        f"The student keeps {most}{100 * share:.0f} % of the ensemble's gain over the baseline (95 % interval"
        f" {100 * low:.0f} to {100 * high:.0f} %; the gain: {found})."
    )


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


@dataclass(frozen=True)
class CostLine:
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

    lines: tuple[CostLine, CostLine, CostLine]
    valid: RetainedGain
    test: RetainedGain | None
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


def evaluate_student(ensemble: Run, student: Run, baseline: Run) -> Distillation:
    """Score all three on the same rows by the ensemble's metric; the student's run keeps it as distilled.json.

    Raises DataError where no row has a label.
    """
    name = read_ensemble(ensemble).metric
    teacher, taught, plain = (run.predictions("valid") for run in (ensemble, student, baseline))
    valid = _retained(name, teacher, taught, plain, flattered=True)
    if valid is None:
        raise DataError(f"{student.id} has no labelled rows to be scored on")
    test = _test(name, ensemble, student, baseline)
    scores = (valid.ensemble, valid.student, valid.baseline)
    first, second, third = (
        CostLine(name, run.id, score, _cost(run, "seconds_per_image"), _cost(run, "bytes"))
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


def _retained(
    name: str, ensemble: Predictions, student: Predictions, baseline: Predictions, *, flattered: bool = False
) -> RetainedGain | None:
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
    return retained_gain(metric, first, second, third, targets[known], groups, flattered=flattered)


def _test(name: str, ensemble: Run, student: Run, baseline: Run) -> RetainedGain | None:
    if not all(run.has("test") for run in (ensemble, student, baseline)):
        return None
    return _retained(name, ensemble.predictions("test"), _of_folds(student), baseline.predictions("test"))


def _of_folds(student: Run) -> Predictions:
    """What the baseline, a mean of folds where there are folds, is compared with."""
    own = student.predictions("test")
    if not student.pools_folds:
        return own
    parents: Sequence[dict[str, Any]] = student.facts["parents"][1:]
    folds = [named_run(student.path.parent, str(parent["id"])).predictions("test") for parent in parents]
    aligned = stacked([align(one, own.ids, own.classes) for one in folds])
    return replace(own, probs=aligned.mean(axis=0, dtype=np.float64).astype(np.float32))


def _notes(student: Run, test: RetainedGain | None) -> list[str]:
    folds = student.pools_folds
    return [
        *(["the student is one network for all rows; scored are its folds and the baseline's"] if folds else []),
        "the members that gave its soft labels had these rows to learn from, and something of the rows' own labels"
        " reaches the student that way: its score here is too good, the more so the more the members remember"
        + ("; believe the test" if test else "; a labelled test set would tell how good it is"),
    ]
