"""Whose networks predict for a run, and how what they say becomes one prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ensemble.combine.arrays import Wide
from ensemble.combine.fitting import Probs
from ensemble.combine.record import Ensemble, read_ensemble
from ensemble.combine.rules import rules
from ensemble.errors import DataError, MismatchedRuns, first_few
from ensemble.predictions import Floats, Ints, Predictions, align
from ensemble.runs.named import named_run
from ensemble.runs.run import Run


@dataclass(frozen=True)
class Member:
    """One voice. networks: the run itself, or a folds run's folds, whose mean speaks."""

    run: Run
    networks: tuple[Run, ...]


@dataclass(frozen=True)
class Committee:
    """The m members of a run and their rule; a member alone, and the folds of a folds run, are a plain mean.

    classes: (k,), the order of every answer.  ensemble: None for the plain mean.
    """

    run: Run
    classes: tuple[str, ...]
    members: tuple[Member, ...]
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
        """float64 (m,), summing to one: what each member weighs where their opinions are compared."""
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


def committee(run: Run) -> Committee:
    """The committee of a complete run.

    Raises DataError for a run, or members of an ensemble, that have no network: they were imported.
    """
    classes = tuple(str(name) for name in run.facts["classes"])
    if run.kind != "ensemble":
        _refuse_imports([run], run)
        return Committee(run, classes, tuple(Member(one, (one,)) for one in _networks(run)))
    ensemble = read_ensemble(run)
    sources = [named_run(run.path.parent, name) for name in ensemble.sources]
    _refuse_imports(sources, run)
    return Committee(run, classes, tuple(Member(one, _networks(one)) for one in sources), ensemble)


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


def honest_rows(found: Committee) -> tuple[Predictions, str]:
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
