"""The honest predictions of an ensemble without some of its members, without fitting it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ensemble.combine.arrays import Wide, normalised
from ensemble.combine.crossfit import Crossfitted, Folds
from ensemble.combine.fitting import Fitted, Pool, Probs
from ensemble.combine.temperature import heated
from ensemble.predictions import Floats, Ints


@dataclass(frozen=True)
class _Fold:
    """The rows of one fold by what was decided without it. probs: (m, n, k) of the members of `fitted`."""

    fitted: Fitted
    probs: Floats

    @cached_property
    def terms(self) -> Floats:
        """float32 (m, n, k): what each member adds."""
        rule, params = self.fitted.rule, self.fitted.params
        return np.stack([rule.term(params, j, member).astype(np.float32) for j, member in enumerate(self.probs)])

    @cached_property
    def total(self) -> Wide:
        """float64 (n, k): the sum of the terms."""
        total: Wide = self.terms.sum(axis=0, dtype=np.float64)
        return total

    def without(self, gone: Sequence[int]) -> Probs:
        """float32 (n, k): the rest's weights sum to one again; the plain mean of a rest that had no weight."""
        rule, params = self.fitted.rule, self.fitted.params
        left = 1 - rule.shares(params)[list(gone)].sum(axis=0)
        if (left > 1e-6).all():
            rest = self.total - sum(self.terms[j].astype(np.float64) for j in gone)
            mixed = rule.finish(params, np.maximum(rest, 0) / left if (self.terms >= 0).all() else rest / left)
        else:
            staying = [j for j in range(len(self.probs)) if j not in gone]
            mixed = normalised(np.mean([self.probs[j].astype(np.float64) for j in staying], axis=0))
        temperature = self.fitted.temperature
        return (mixed if temperature is None else heated(mixed, temperature)).astype(np.float32)


class Reduced:
    """Positions among the kept members -> the predictions (n, k) of `rows` by the ensemble without those.

    Each fold answers by what was decided without it, the weights of the rest as they were but for their sum:
    what leaving a member out costs, not what another ensemble would be worth.
    """

    def __init__(self, kept: Sequence[int], fits: Crossfitted, pool: Pool, folds: Folds, rows: Ints):
        self.kept, self.k = kept, pool.probs.shape[2]
        self.n = len(rows)
        place = {fold: np.flatnonzero(folds.fold[rows] == fold) for fold in folds.names}
        self.folds = [
            (at, _Fold(fits.fits[fold], pool.taken(fits.fits[fold].selection.kept, rows[at])))
            for fold, at in place.items()
        ]

    def __call__(self, positions: tuple[int, ...]) -> Probs:
        out = np.empty((self.n, self.k), np.float32)
        gone = {self.kept[position] for position in positions}
        for at, fold in self.folds:
            here = fold.fitted.selection.kept
            places = [j for j, index in enumerate(here) if index in gone]
            # a fold whose few members are all gone has nobody else to ask
            out[at] = fold.without(places if len(places) < len(here) else [])
        return out
