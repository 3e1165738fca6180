"""What each member contributes, and predictions of the ensemble without some members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ensemble.combine.arrays import enough_rows, normalised
from ensemble.combine.calibration import apply_temperature, fit_temperature
from ensemble.combine.crossfit import Folds
from ensemble.combine.evaluate import Evaluation
from ensemble.combine.fit import Fitted, Pool, Probs
from ensemble.core.predictions import Floats, Ints, Texts, Wide
from ensemble.metrics import Metric, labels
from ensemble.stats.intervals import PAIRED_DRAWS, Difference, differences

Without = Callable[[tuple[int, ...]], Floats]
"""Positions among the m members -> the cross-fitted predictions (n, k) of the ensemble without those."""

FEWEST_DRAWS, DRAWN_ROWS = 50, 50_000_000


@dataclass(frozen=True)
class Contribution:
    """One member's part in an ensemble.

    gain, low, high: what the ensemble's score gains by it, positive where it helps whatever the metric's
    direction, and the 95 % interval; None for a member alone.  disagreement: the share of rows on which its
    label differs from another member's, the mean over the others.
    """

    gain: float | None
    low: float | None
    high: float | None
    disagreement: float


def contributions(
    metric: Metric, whole: Floats, without: Without, probs: Floats, targets: Ints, groups: Texts | None
) -> list[Contribution]:
    """Each member's part. whole: cross-fitted predictions (n, k).  probs: (m, n, k) of the same n rows.

    targets: (n,), all known.  groups: (n,) or None.  `without` is called once for each member.
    """
    gains = _gains(metric, whole, without, len(probs), targets, groups)
    apart = disagreement(_labels(probs), probs.shape[2])
    return [
        Contribution(None, None, None, differs)
        if gain is None
        else Contribution(gain.value, gain.low, gain.high, differs)
        for gain, differs in zip(gains, apart, strict=True)
    ]


def _gains(
    metric: Metric, whole: Floats, without: Without, m: int, targets: Ints, groups: Texts | None
) -> list[Difference] | list[None]:
    if m == 1:
        return [None]
    count = min(PAIRED_DRAWS, max(FEWEST_DRAWS, DRAWN_ROWS // (m * len(targets))))
    rest = (without((position,)) for position in range(m))
    return [found.gain(metric) for found in differences(metric, whole, rest, targets, groups, count)]


def _labels(probs: Floats) -> npt.NDArray[np.int32]:
    out = np.empty(probs.shape[:2], np.int32)
    for row, member in zip(out, probs, strict=True):
        row[:] = labels(member)
    return out


def disagreement(chosen: npt.NDArray[np.integer], k: int) -> list[float]:
    """For each member the mean over the others of the share of rows with another label; 0 for a member alone.

    chosen: labels (m, n) among k classes. Counted by votes, so that m members cost m passes and not m squared.
    """
    m, n = chosen.shape
    rows, votes = np.arange(n), np.zeros((n, k), np.int32)
    for member in chosen:
        votes[rows, member] += 1
    return [float(np.sum(m - votes[rows, member], dtype=np.int64)) / (n * max(m - 1, 1)) for member in chosen]


def only_right(hits: npt.NDArray[np.bool_]) -> list[int]:
    """How many rows each member alone gets right. hits: (m, n), whether each member's label is the target."""
    alone = hits[:, hits.sum(axis=0) == 1]
    return [int(count) for count in alone.sum(axis=1)]


SEEN_ROWS, SEEN_CELLS, FEWEST_ROWS = 2_000, 500_000, 500
"""So many of the rows that a fold's temperature was fitted on fix it anew for the rest of the members; fewer where
classes are many."""


@dataclass(frozen=True)
class _Rows:
    """Some rows by one fit. probs: (m, n, k) of the members of `fitted`."""

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

    def without(self, gone: Sequence[int]) -> Wide:
        """float64 (n, k): the rest's weights sum to one again; the plain mean of a rest that had no weight."""
        rule, params = self.fitted.rule, self.fitted.params
        left = 1 - rule.shares(params)[list(gone)].sum(axis=0)
        if (left > 1e-6).all():
            rest = self.total - sum(self.terms[j].astype(np.float64) for j in gone)
            return rule.finish(params, np.maximum(rest, 0) / left if (self.terms >= 0).all() else rest / left)
        staying = [j for j in range(len(self.probs)) if j not in gone]
        return normalised(np.mean([self.probs[j].astype(np.float64) for j in staying], axis=0))


@dataclass(frozen=True)
class _Fold:
    """The rows of one fold, and rows that the fit saw, with their targets."""

    here: _Rows
    seen: _Rows
    targets: Ints

    def without(self, gone: Sequence[int], heat: bool) -> Probs:
        """float32 (n, k). heat: at a temperature that is fitted to the rest, if there was one."""
        mixed = self.here.without(gone)
        if heat and self.here.fitted.temperature is not None:
            # the old one is that of the mean with those that are gone
            mixed = apply_temperature(mixed, fit_temperature(self.seen.without(gone), self.targets))
        return mixed.astype(np.float32)


class WithoutMembers:
    """Positions among the kept members -> the predictions (n, k) of `rows` by the ensemble without those.

    Each fold answers by what was decided without it; the weights of the rest are as they were but for their sum,
    the temperature is fitted anew: what leaving a member out costs, not what another ensemble would be worth.
    heat: whether the score depends on the temperature; without it there is none.
    """

    def __init__(self, kept: Sequence[int], evaluation: Evaluation, pool: Pool, rows: Ints, heat: bool) -> None:
        self.kept, self.heat, self.shape = kept, heat, (len(rows), pool.probs.shape[2])
        folds = evaluation.folds
        self.folds = [
            (
                np.flatnonzero(folds.fold[rows] == fold),
                self._fold(evaluation.fits.fits[fold], pool, folds, fold, rows),
            )
            for fold in folds.names
        ]

    def _fold(self, fitted: Fitted, pool: Pool, folds: Folds, fold: int, rows: Ints) -> _Fold:
        members, rest, k = fitted.selection.kept, folds.without(fold), self.shape[1]
        seen = (
            rest[enough_rows(len(rest), k, min(SEEN_CELLS, SEEN_ROWS * k), FEWEST_ROWS)] if self.heat else rest[:0]
        )
        here = rows[folds.fold[rows] == fold]
        known, said = _Rows(fitted, pool.taken(members, here)), _Rows(fitted, pool.taken(members, seen))
        return _Fold(known, said, pool.targets[seen])

    def __call__(self, positions: tuple[int, ...]) -> Probs:
        out = np.empty(self.shape, np.float32)
        gone = {self.kept[position] for position in positions}
        for at, fold in self.folds:
            members = fold.here.fitted.selection.kept
            places = [j for j, index in enumerate(members) if index in gone]
            # a fold whose few members are all gone has nobody else to ask
            out[at] = fold.without(places if len(places) < len(members) else [], self.heat)
        return out
