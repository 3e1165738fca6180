"""How much of an ensemble's gain over a single network another network keeps, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble.combine.arrays import Wide
from ensemble.combine.comparison import DRAWN_ROWS, FEWEST_DRAWS, MOST_DRAWS, compare
from ensemble.combine.intervals import student as student_t
from ensemble.combine.intervals import units_of
from ensemble.combine.paired import Difference, difference, drawn_scores, group_codes
from ensemble.metrics import Metric
from ensemble.predictions import Floats, Ints, Texts


@dataclass(frozen=True)
class Kept:
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


def kept(
    metric: Metric,
    ensemble: Floats,
    student: Floats,
    baseline: Floats,
    targets: Ints,
    groups: Texts | None,
    *,
    flattered: bool = False,
) -> Kept:
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
    return Kept(metric.name, len(targets), ours, own, plain, gain, learnt, share, low, high, said)


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
