"""How far a run's conformal sets can be relied on, in one value and one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from ensemble.combine.committee import Committee, honest_rows
from ensemble.combine.conformal import HALVES, Conformal, calibrated, mean_coverage
from ensemble.predictions import Floats, Ints

CHANCE = 0.05
"""That a class is named whose rows are covered as often as all are, whatever the number of classes."""


@dataclass(frozen=True)
class Least:
    """The class whose rows the sets hold least often. share: of its `rows` rows."""

    name: str
    share: float
    rows: int


@dataclass(frozen=True)
class Calibration:
    """measured: the mean coverage of random halves, nan where there are none.  why: whose rows, if not its own.

    least: a class that is covered less often than all together, and not by chance; None without one.
    """

    sets: Conformal
    measured: float
    why: str = ""
    least: Least | None = None

    def __str__(self) -> str:
        return (
            f"sets are to hold the true class of {self.sets.coverage:.0%} of images like the {self.sets.rows}"
            f" validation rows{' ' if self.why else ''}{self.why} (split conformal, LAC); measured on {HALVES}"
            f" random halves of them: {self.measured:.1%}"
        )

    @property
    def warning(self) -> str:
        """Where the promise can only be kept by naming every class, or is not kept for one; else nothing."""
        if self.sets.bound < 1:
            one = self.least
            return (
                ""
                if one is None
                else (
                    f"that is of all classes together: of {one.name}, the least, sets hold {one.share:.1%}"
                    f" ({one.rows} rows)"
                )
            )
        return "the validation rows are too few, or too hard, for that coverage: every set holds every class"


def calibration(found: Committee, coverage: float) -> Calibration:
    """Calibrated on validation rows that nothing was fitted on. Raises DataError where none has a label."""
    probs, targets, why = calibration_rows(found)
    sets = calibrated(probs, targets, coverage)
    least = least_covered(sets, probs, targets, found.classes)
    return Calibration(sets, mean_coverage(probs, targets, coverage), why, least)


def least_covered(sets: Conformal, probs: Floats, targets: Ints, classes: Sequence[str]) -> Least | None:
    """The class of probs (n, k) whose share of held rows is least, where it is below the coverage beyond chance.

    Split conformal prediction promises a share of all rows; of a rare class it may hold far fewer (Sadinle, Lei and
    Wasserman 2019).
    """
    k = len(classes)
    held = sets.sets(probs)[np.arange(len(targets)), targets]
    rows, hits = np.bincount(targets, minlength=k), np.bincount(targets[held], minlength=k)
    odd = np.flatnonzero((rows > 0) & (binom.cdf(hits, rows, sets.coverage) < CHANCE / k))
    if not len(odd):
        return None
    at = int(odd[np.argmin(hits[odd] / rows[odd])])
    return Least(classes[at], float(hits[at] / rows[at]), int(rows[at]))


def calibration_rows(found: Committee) -> tuple[Floats, Ints, str]:
    """probs (n, k), targets (n,) of the labelled honest rows, and whose they are. Raises DataError without any."""
    rows, why = honest_rows(found)
    assert rows.targets is not None
    return rows.probs[rows.labelled], rows.targets[rows.labelled], why
