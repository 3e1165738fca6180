"""The members that predict for a run, their outputs combined, and the reliability of their prediction sets."""

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
from ensemble.runs.run import Run


@dataclass(frozen=True)
class PredictingMember:
    """One voice. networks: the run itself, or a folds run's folds, whose mean speaks."""

    run: Run
    networks: tuple[Run, ...]


@dataclass(frozen=True)
class PredictingMembers:
    """The m members of a run and their rule; a member alone, and the folds of a folds run, are a plain mean.

    classes: (k,), the order of every answer.  ensemble: None for the plain mean.
    """

    run: Run
    classes: tuple[str, ...]
    members: tuple[PredictingMember, ...]
    ensemble: Ensemble | None = None

    @cached_property
    def used(self) -> tuple[int, ...]:
        """The members that have a part in the answer; the rule passes over the others."""
        if self.ensemble is None:
            return tuple(range(len(self.members)))
        shares = rules.get(self.ensemble.rule).shares(self.ensemble.params)
        return tuple(j for j, share in enumerate(shares) if share.any())

    @cached_property
    def weights(self) -> Wide:
        """float64 (m,), summing to one: what each member weighs where their outputs are compared."""
        found = None
        if self.ensemble is not None:
            found = rules.get(self.ensemble.rule).weights(self.ensemble.params)
        if found is None:
            found = np.zeros(len(self.members))
            found[list(self.used)] = 1
        weights: Wide = found / found.sum()
        return weights

    @property
    def networks(self) -> tuple[Run, ...]:
        """The runs whose networks are asked, each once."""
        asked = (network for j in self.used for network in self.members[j].networks)
        return tuple({run.id: run for run in asked}.values())

    def combined(self, probs: Floats) -> Probs:
        """float32 (n, k) from the members' probs (m, n, k), row by row; those not `used` may hold anything."""
        if self.ensemble is not None:
            return self.ensemble.predict(probs)
        return mean_of(probs)

    def columns(self, run: Run) -> Ints:
        """Where the classes (k,) are in the order of `run`. Raises MismatchedRuns for other classes."""
        own = [str(name) for name in run.facts["classes"]]
        if sorted(own) != sorted(self.classes):
            odd = sorted(set(own) ^ set(self.classes))
            raise MismatchedRuns(f"{run.id} has other classes than {self.run.id}: {first_few(odd)}; combine again")
        return np.array([own.index(name) for name in self.classes], np.int64)


def mean_of(probs: Floats) -> Probs:
    """float32 (n, k): the plain mean of probs (m, n, k), in float64."""
    mean: Probs = probs.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def predicting_members(run: Run) -> PredictingMembers:
    """The committee of a complete run.

    Raises DataError for a run, or members of an ensemble, that have no network: they were imported.
    """
    classes = tuple(str(name) for name in run.facts["classes"])
    if run.kind != "ensemble":
        _refuse_imports([run], run)
        return PredictingMembers(run, classes, tuple(PredictingMember(one, (one,)) for one in _networks(run)))
    ensemble = read_ensemble(run)
    sources = [named_run(run.path.parent, name) for name in ensemble.sources]
    _refuse_imports(sources, run)
    return PredictingMembers(
        run, classes, tuple(PredictingMember(one, _networks(one)) for one in sources), ensemble
    )


def _networks(run: Run) -> tuple[Run, ...]:
    if run.kind != "folds":
        return (run,)
    return tuple(named_run(run.path.parent, str(parent["id"])) for parent in run.facts["parents"])


def _refuse_imports(sources: Sequence[Run], run: Run) -> None:
    imported = [one.id for one in sources if one.kind == "import"]
    if imported:
        verb = "has" if len(imported) == 1 else "have"
        where = "" if imported == [run.id] else f" in {run.id}"
        raise DataError(
            f"{first_few(imported)}{where} {verb} no network: predictions made elsewhere cannot"
            " be made for other images; name a"
            " trained run, or combine without it"
        )


def honest_rows(found: PredictingMembers) -> tuple[Predictions, str]:
    """The labelled validation rows that stand for new images, in the committee's classes, and a note on whose.

    An ensemble's are cross-fitted; a refit's are those of the member before it, which never saw them. Raises
    DataError where none has a target.
    """
    run, why = found.run, ""
    if not run.has("valid") and run.facts.get("parents"):
        run = named_run(run.path.parent, str(run.facts["parents"][0]["id"]))
        why = f"of {run.id}, before the refit"
    elif found.ensemble is not None and found.ensemble.sources != found.ensemble.members:
        why = "of the members before the refit"
    rows = run.predictions("valid") if run.has("valid") else None
    if rows is None or not rows.labelled.any():
        raise DataError(f"{found.run.id} has no labelled validation rows to calibrate on; leave out --uncertain")
    return align(rows, rows.ids, np.array(found.classes)), why


@dataclass(frozen=True)
class EnsembleOutput:
    """What a run says of n images. probs: float32 (n, k).  members: float32 (m, n, k), uniform where unheard."""

    probs: Probs
    members: Probs

    def row(self, i: int) -> EnsembleOutput:
        """What it says of image i alone, as n = 1."""
        return EnsembleOutput(self.probs[i : i + 1], self.members[:, i : i + 1])


def member_disagreement(members: Floats, weights: Floats) -> Wide | None:
    """float64 (n,): the disagreement of members (m, n, k); None where fewer than two weigh anything."""
    return disagreement(members, weights) if np.count_nonzero(weights) > 1 else None


CHANCE = 0.05
"""That a class is named whose rows are covered as often as all are, whatever the number of classes."""


@dataclass(frozen=True)
class LeastCovered:
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
    least: LeastCovered | None = None

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


def calibration(found: PredictingMembers, coverage: float) -> Calibration:
    """Calibrated on validation rows that nothing was fitted on. Raises DataError where none has a label."""
    probs, targets, why = calibration_rows(found)
    sets = calibrated(probs, targets, coverage)
    least = least_covered(sets, probs, targets, found.classes)
    return Calibration(sets, mean_coverage(probs, targets, coverage), why, least)


def least_covered(sets: Conformal, probs: Floats, targets: Ints, classes: Sequence[str]) -> LeastCovered | None:
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
    return LeastCovered(classes[at], float(hits[at] / rows[at]), int(rows[at]))


def calibration_rows(found: PredictingMembers) -> tuple[Floats, Ints, str]:
    """probs (n, k), targets (n,) of the labelled honest rows, and whose they are. Raises DataError without any."""
    rows, why = honest_rows(found)
    assert rows.targets is not None
    return rows.probs[rows.labelled], rows.targets[rows.labelled], why
