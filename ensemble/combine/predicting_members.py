"""The predicting members of a run, their combined output, and the calibration of their prediction sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import binom

from ensemble.combine.calibration import HALVES, Conformal, calibrated, mean_coverage
from ensemble.combine.fit import Probs
from ensemble.combine.record import Ensemble, read_ensemble
from ensemble.combine.rules import rules
from ensemble.core.errors import DataError, MismatchedRuns, first_few
from ensemble.core.predictions import Floats, Ints, Predictions, Wide, align
from ensemble.metrics.classification import disagreement
from ensemble.runs.origin import named_run
from ensemble.runs.record import Kind
from ensemble.runs.run import Run


@dataclass(frozen=True)
class PredictingMember:
    """One member. networks: the run itself, or the folds of a folds run, whose predictions are averaged."""

    run: Run
    networks: tuple[Run, ...]


@dataclass(frozen=True)
class PredictingMembers:
    """The m members of a run and their rule; a single run, and the folds of a folds run, use the plain mean.

    classes: (k,), the column order of all predictions.  ensemble: None for the plain mean.
    """

    run: Run
    classes: tuple[str, ...]
    members: tuple[PredictingMember, ...]
    ensemble: Ensemble | None = None

    @cached_property
    def used(self) -> tuple[int, ...]:
        """Indices of the members with a share in the combined prediction."""
        if self.ensemble is None:
            return tuple(range(len(self.members)))
        shares = rules.get(self.ensemble.rule).shares(self.ensemble.params)
        return tuple(j for j, share in enumerate(shares) if share.any())

    @cached_property
    def weights(self) -> Wide:
        """float64 (m,), summing to one: the members' weights for comparing their outputs."""
        member_weights = None
        if self.ensemble is not None:
            member_weights = rules.get(self.ensemble.rule).weights(self.ensemble.params)
        if member_weights is None:
            member_weights = np.zeros(len(self.members))
            member_weights[list(self.used)] = 1
        weights: Wide = member_weights / member_weights.sum()
        return weights

    @property
    def networks(self) -> tuple[Run, ...]:
        """The runs of the networks of all used members, without duplicates."""
        used_networks = (network for j in self.used for network in self.members[j].networks)
        return tuple({run.id: run for run in used_networks}.values())

    def combined(self, probs: Floats) -> Probs:
        """float32 (n, k) from the members' probs (m, n, k), row by row; entries of unused members are ignored."""
        if self.ensemble is not None:
            return self.ensemble.predict(probs)
        return mean_of(probs)

    def columns(self, run: Run) -> Ints:
        """The column of `run` for each of the classes, int64 (k,). Raises MismatchedRuns for other classes."""
        run_classes = list(run.record.classes)
        if sorted(run_classes) != sorted(self.classes):
            differing = sorted(set(run_classes) ^ set(self.classes))
            raise MismatchedRuns(
                f"{run.id} has other classes than {self.run.id}: {first_few(differing)}; combine again"
            )
        return np.array([run_classes.index(name) for name in self.classes], np.int64)


def mean_of(probs: Floats) -> Probs:
    """float32 (n, k): the plain mean of probs (m, n, k), in float64."""
    mean: Probs = probs.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def predicting_members(run: Run) -> PredictingMembers:
    """The predicting members of a complete run.

    Raises DataError for an import, or an ensemble of imports: they have no network.
    """
    classes = run.record.classes
    if not run.is_ensemble:
        _refuse_imports([run], run)
        return PredictingMembers(
            run, classes, tuple(PredictingMember(network, (network,)) for network in _networks(run))
        )
    ensemble = read_ensemble(run)
    sources = [named_run(run.path.parent, name) for name in ensemble.sources]
    _refuse_imports(sources, run)
    return PredictingMembers(
        run, classes, tuple(PredictingMember(source, _networks(source)) for source in sources), ensemble
    )


def _networks(run: Run) -> tuple[Run, ...]:
    if run.kind is not Kind.FOLDS:
        return (run,)
    return tuple(named_run(run.path.parent, parent.id) for parent in run.record.parents)


def _refuse_imports(sources: Sequence[Run], run: Run) -> None:
    imported = [source.id for source in sources if source.is_import]
    if imported:
        verb = "has" if len(imported) == 1 else "have"
        where = "" if imported == [run.id] else f" in {run.id}"
        raise DataError(
            f"{first_few(imported)}{where} {verb} no network: predictions made elsewhere cannot"
            " be made for other images; name a"
            " trained run, or combine without it"
        )


def honest_rows(members: PredictingMembers) -> tuple[Predictions, str]:
    """Validation predictions by models not trained on the rows, in the members' classes, and their origin.

    An ensemble's are cross-fitted; a refit's are those of the member before the refit. Raises DataError if no row
    has a target.
    """
    run, origin = members.run, ""
    if not run.has("valid") and run.record.parents:
        run = named_run(run.path.parent, run.record.parents[0].id)
        origin = f"of {run.id}, before the refit"
    elif members.ensemble is not None and members.ensemble.refitted:
        origin = "of the members before the refit"
    rows = run.predictions("valid") if run.has("valid") else None
    if rows is None or not rows.labelled.any():
        raise DataError(f"{members.run.id} has no labelled validation rows to calibrate on; leave out --uncertain")
    return align(rows, rows.ids, np.array(members.classes)), origin


@dataclass(frozen=True)
class EnsembleOutput:
    """Predictions of n images. probs: float32 (n, k), combined.  members: float32 (m, n, k), uniform if unused."""

    probs: Probs
    members: Probs

    def row(self, i: int) -> EnsembleOutput:
        """The predictions of image i alone, with n = 1."""
        return EnsembleOutput(self.probs[i : i + 1], self.members[:, i : i + 1])


def member_disagreement(members: Floats, weights: Floats) -> Wide | None:
    """The disagreement of members (m, n, k), float64 (n,); None if fewer than two have a weight."""
    return disagreement(members, weights) if np.count_nonzero(weights) > 1 else None


SIGNIFICANCE = 0.05
"""Familywise probability of reporting a class whose true coverage equals that of all rows (Bonferroni)."""


@dataclass(frozen=True)
class LeastCovered:
    """The class with the lowest coverage. share: the covered fraction of its `rows` rows."""

    name: str
    share: float
    rows: int


@dataclass(frozen=True)
class Calibration:
    """measured: mean coverage over random halves, nan if undefined.  origin: of the rows, if not the run's own.

    least: the class with significantly lower coverage than requested; None without one.
    """

    sets: Conformal
    measured: float
    origin: str = ""
    least: LeastCovered | None = None

    def __str__(self) -> str:
        return (
            f"sets are to hold the true class of {self.sets.coverage:.0%} of images like the {self.sets.rows}"
            f" validation rows{' ' if self.origin else ''}{self.origin} (split conformal, LAC); measured on"
            f" {HALVES} random halves of them: {self.measured:.1%}"
        )

    @property
    def warning(self) -> str:
        """A warning if every set contains all classes, or if one class is covered too rarely; otherwise empty."""
        if self.sets.bound < 1:
            least = self.least
            return (
                ""
                if least is None
                else (
                    f"that is of all classes together: of {least.name}, the least, sets hold {least.share:.1%}"
                    f" ({least.rows} rows)"
                )
            )
        return "the validation rows are too few, or too hard, for that coverage: every set holds every class"


def calibration(members: PredictingMembers, coverage: float) -> Calibration:
    """Calibrated on validation rows that nothing was fitted on. Raises DataError if none has a label."""
    probs, targets, origin = calibration_rows(members)
    sets = calibrated(probs, targets, coverage)
    least = least_covered(sets, probs, targets, members.classes)
    return Calibration(sets, mean_coverage(probs, targets, coverage), origin, least)


def least_covered(sets: Conformal, probs: Floats, targets: Ints, classes: Sequence[str]) -> LeastCovered | None:
    """The class of probs (n, k) with the lowest coverage, if that is significantly below the requested coverage.

    Split conformal prediction guarantees coverage over all rows; for a rare class it may be far lower (Sadinle,
    Lei and Wasserman 2019).
    """
    k = len(classes)
    covered = sets.sets(probs)[np.arange(len(targets)), targets]
    rows, hits = np.bincount(targets, minlength=k), np.bincount(targets[covered], minlength=k)
    low = np.flatnonzero((rows > 0) & (binom.cdf(hits, rows, sets.coverage) < SIGNIFICANCE / k))
    if not len(low):
        return None
    lowest = int(low[np.argmin(hits[low] / rows[low])])
    return LeastCovered(classes[lowest], float(hits[lowest] / rows[lowest]), int(rows[lowest]))


def calibration_rows(members: PredictingMembers) -> tuple[Floats, Ints, str]:
    """probs (n, k), targets (n,) of the labelled `honest_rows`, and their origin. Raises DataError without any."""
    rows, origin = honest_rows(members)
    assert rows.targets is not None
    return rows.probs[rows.labelled], rows.targets[rows.labelled], origin
