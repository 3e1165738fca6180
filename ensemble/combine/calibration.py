"""How far a run's conformal sets can be relied on, in one value and one sentence."""

from __future__ import annotations

from dataclasses import dataclass

from ensemble.combine.committee import Committee, honest_rows
from ensemble.combine.conformal import HALVES, Conformal, calibrated, mean_coverage
from ensemble.predictions import Floats, Ints


@dataclass(frozen=True)
class Calibration:
    """measured: the mean coverage of random halves, nan where there are none.  why: whose rows, if not its own."""

    sets: Conformal
    measured: float
    why: str = ""

    def __str__(self) -> str:
        return (
            f"sets are to hold the true class of {self.sets.coverage:.0%} of images like the {self.sets.rows}"
            f" validation rows{' ' if self.why else ''}{self.why} (split conformal, LAC); measured on {HALVES}"
            f" random halves of them: {self.measured:.1%}"
        )

    @property
    def warning(self) -> str:
        """Where the promise can only be kept by naming every class; else nothing."""
        if self.sets.bound < 1:
            return ""
        return "the validation rows are too few, or too hard, for that coverage: every set holds every class"


def calibration(found: Committee, coverage: float) -> Calibration:
    """Calibrated on validation rows that nothing was fitted on. Raises DataError where none has a label."""
    probs, targets, why = calibration_rows(found)
    sets = calibrated(probs, targets, coverage)
    return Calibration(sets, mean_coverage(probs, targets, coverage), why)


def calibration_rows(found: Committee) -> tuple[Floats, Ints, str]:
    """probs (n, k), targets (n,) of the labelled honest rows, and whose they are. Raises DataError without any."""
    rows, why = honest_rows(found)
    assert rows.targets is not None
    return rows.probs[rows.labelled], rows.targets[rows.labelled], why
