"""Evaluation of a student: the share of the ensemble's gain that it retains, and the prediction costs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ensemble.combine.record import read_ensemble
from ensemble.core.errors import DataError
from ensemble.core.estimate import Estimate
from ensemble.core.files import without_nan, write_json
from ensemble.core.predictions import UNKNOWN, Floats, Ints, Predictions, Texts, Wide, align, stacked
from ensemble.distill.teacher import rows_of
from ensemble.metrics import Metric, find
from ensemble.runs.origin import named_run
from ensemble.runs.record import SCHEMA, Kind
from ensemble.runs.run import Run
from ensemble.stats.comparison import DRAWN_ROWS, FEWEST_DRAWS, MOST_DRAWS, compare
from ensemble.stats.intervals import Difference, difference, drawn_scores, group_codes, units_of
from ensemble.stats.intervals import student as student_t


@dataclass(frozen=True)
class RetainedGain:
    """Scores of an ensemble, of its student, and of the baseline: the same network trained without the teacher.

    gain: ensemble minus baseline, positive if the ensemble is better.  student_gain: student minus baseline.
    share: student_gain / gain; None without a gain. Its interval is not known if the gain does not differ
    significantly from 0, so that the share is unbounded.
    """

    metric: str
    rows: int
    ensemble: float
    student: float
    baseline: float
    gain: Difference
    student_gain: Difference
    share: Estimate | None
    sentences: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        scores = {"ensemble": self.ensemble, "student": self.student, "baseline": self.baseline}
        gaps = {"gain": self.gain.facts(), "learnt": self.student_gain.facts()}
        share = (None, None, None) if self.share is None else (self.share.value, self.share.low, self.share.high)
        shares = dict(zip(("share", "low", "high"), share, strict=True))
        return {"metric": self.metric, "rows": self.rows, **scores, **gaps, **shares, "says": list(self.sentences)}


def retained_gain(
    metric: Metric,
    ensemble: Floats,
    student: Floats,
    baseline: Floats,
    targets: Ints,
    groups: Texts | None,
    *,
    optimistic: bool = False,
) -> RetainedGain:
    """The share of the gain that `student` retains: probs (n, k) of the same rows, targets (n,) all known.

    optimistic: whether these targets may have leaked to the student, so that the share is an upper bound.
    """
    gain = difference(metric, ensemble, baseline, targets, groups).gain(metric)
    student_gain = difference(metric, student, baseline, targets, groups).gain(metric)
    codes = None if groups is None else group_codes(groups)
    count = min(MOST_DRAWS, max(FEWEST_DRAWS, DRAWN_ROWS // len(targets)))
    draws = [drawn_scores(metric, probs, targets, codes, count) for probs in (ensemble, student, baseline)]
    covariance = np.cov(np.stack([draws[1] - draws[2], draws[0] - draws[2]])[:, np.isfinite(sum(draws))])
    bounds = None
    if gain.value > 0 and np.isfinite(covariance).all():
        bounds = ratio_interval(student_gain.value, gain.value, covariance, student_t(units_of(targets, codes)))
    share = Estimate(student_gain.value / gain.value, *(bounds or ())) if gain.value > 0 else None
    comparison = compare(metric, [(student, baseline)], targets, groups, "the baseline").sentence
    sentences = (
        _sentence(share, gain, metric.name, len(targets), optimistic),
        f"Student{', flattered' if optimistic else ''}: {_lower(comparison)}",
    )
    ensemble_score, student_score, baseline_score = (
        metric(probs, targets) for probs in (ensemble, student, baseline)
    )
    return RetainedGain(
        metric.name,
        len(targets),
        ensemble_score,
        student_score,
        baseline_score,
        gain,
        student_gain,
        share,
        sentences,
    )


def ratio_interval(
    numerator: float, denominator: float, covariance: Wide, errors: float
) -> tuple[float, float] | None:
    """The confidence interval of numerator / denominator, normal estimates with `covariance` (2, 2) (Fieller 1954).

    errors: number of standard errors to either side, 1.96 for 95 %. None if `denominator` does not differ
    significantly from 0: then the interval is unbounded on at least one side.
    """
    square = denominator**2 - errors**2 * covariance[1, 1]
    if square <= 0:
        return None
    middle = numerator * denominator - errors**2 * covariance[0, 1]
    rest = numerator**2 - errors**2 * covariance[0, 0]
    half = math.sqrt(max(0.0, middle**2 - square * rest))
    return (float(middle) - half) / float(square), (float(middle) + half) / float(square)


def _sentence(
    share: Estimate | None,
    gain: Difference,
    metric: str,
    rows: int,
    optimistic: bool,
) -> str:
    gain_text = f"{gain.value:+.4f} {metric}, 95 % interval {gain.low:+.4f} to {gain.high:+.4f}, on {rows} images"
    if share is None:
        return f"The ensemble is no better than the baseline ({gain_text}), so there is no gain to keep."
    if not share.bounds:
        return (
            f"The ensemble's gain over the baseline could be noise ({gain_text}), so a share of it"
            f" ({100 * share.value:.0f} % here) says nothing."
        )
    most = "at most " if optimistic else ""
    return (
        f"The student keeps {most}{100 * share.value:.0f} % of the ensemble's gain over the baseline"
        f" ({share.interval('.0f', 100)} %; the gain: {gain_text})."
    )


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


@dataclass(frozen=True)
class CostLine:
    """One run: score on the validation rows, and prediction costs. seconds_per_image, bytes: None if unknown.

    The cost of a baseline of folds is that of one fold, since a student of folds is a single network too.
    """

    name: str
    run: str
    score: float
    seconds_per_image: float | None
    bytes: float | None


@dataclass(frozen=True)
class Distillation:
    """lines: ensemble, student, baseline.  valid: on rows that neither student nor baseline was trained on. The
    members that predicted the soft labels of the other rows were, so the student's share is an upper bound.

    test: on the labelled test rows, None if there are none; with folds, of the mean prediction of the folds.
    """

    lines: tuple[CostLine, CostLine, CostLine]
    valid: RetainedGain
    test: RetainedGain | None
    notes: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = {
            "schema": SCHEMA,
            "runs": [asdict(line) for line in self.lines],
            "valid": self.valid.facts(),
            "test": None if self.test is None else self.test.facts(),
            "notes": list(self.notes),
        }
        plain: dict[str, Any] = without_nan(values)
        return plain


def evaluate_student(ensemble: Run, student: Run, baseline: Run) -> Distillation:
    """Score all three on the same rows by the ensemble's metric; writes distilled.json in the student's run.

    Raises DataError if no row has a label.
    """
    name = read_ensemble(ensemble).metric
    ensemble_rows, student_rows, baseline_rows = (run.predictions("valid") for run in (ensemble, student, baseline))
    valid = _retained(name, ensemble_rows, student_rows, baseline_rows, optimistic=True)
    if valid is None:
        raise DataError(f"{student.id} has no labelled rows to be scored on")
    test = _test(name, ensemble, student, baseline)
    scores = (valid.ensemble, valid.student, valid.baseline)
    first, second, third = (
        CostLine(
            name,
            run.id,
            score,
            _per_network(run, run.record.seconds_per_image),
            _per_network(run, run.record.bytes),
        )
        for name, run, score in zip(
            ("ensemble", "student", "baseline"), (ensemble, student, baseline), scores, strict=True
        )
    )
    distillation = Distillation((first, second, third), valid, test, tuple(_notes(student, test)))
    write_json(student.path / "distilled.json", distillation.facts())
    return distillation


def _per_network(run: Run, cost: float | None) -> float | None:
    """The cost of one of the networks of a folds run; that of any other run as it is."""
    return cost / len(run.record.parents) if cost is not None and run.kind is Kind.FOLDS else cost


def _retained(
    name: str, ensemble: Predictions, student: Predictions, baseline: Predictions, *, optimistic: bool = False
) -> RetainedGain | None:
    """The retained gain on the student's rows, a subset of the ensemble's; None if no row has a label."""
    ids, classes = student.ids, student.classes
    ensemble_rows, baseline_rows = rows_of(ensemble, ids, classes), align(baseline, ids, classes)
    targets = student.targets
    if targets is None or not student.labelled.any():
        return None
    known = targets != UNKNOWN
    groups = None if student.groups is None else student.groups[known]
    metric = find(name, classes.tolist())
    first, second, third = (rows.probs[known] for rows in (ensemble_rows, student, baseline_rows))
    return retained_gain(metric, first, second, third, targets[known], groups, optimistic=optimistic)


def _test(name: str, ensemble: Run, student: Run, baseline: Run) -> RetainedGain | None:
    if not all(run.has("test") for run in (ensemble, student, baseline)):
        return None
    return _retained(name, ensemble.predictions("test"), _of_folds(student), baseline.predictions("test"))


def _of_folds(student: Run) -> Predictions:
    """The student's test predictions; with folds the mean of the folds, as for the baseline."""
    predictions = student.predictions("test")
    if not student.pools_folds:
        return predictions
    parents = student.record.parents[1:]
    folds = [named_run(student.path.parent, parent.id).predictions("test") for parent in parents]
    aligned = stacked([align(fold, predictions.ids, predictions.classes) for fold in folds])
    return replace(predictions, probs=aligned.mean(axis=0, dtype=np.float64).astype(np.float32))


def _notes(student: Run, test: RetainedGain | None) -> list[str]:
    folds = student.pools_folds
    return [
        *(["the student is one network for all rows; scored are its folds and the baseline's"] if folds else []),
        "the members that gave its soft labels had these rows to learn from, and something of the rows' own labels"
        " reaches the student that way: its score here is too good, the more so the more the members remember"
        + ("; believe the test" if test else "; a labelled test set would tell how good it is"),
    ]
