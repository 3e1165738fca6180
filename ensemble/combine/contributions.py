"""Each member's contribution to the score, and predictions of the ensemble without some members."""

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
from ensemble.core.estimate import Estimate
from ensemble.core.predictions import Floats, Ints, Texts, Wide
from ensemble.metrics import Metric, labels
from ensemble.stats.intervals import PAIRED_DRAWS, Difference, differences

PredictWithout = Callable[[tuple[int, ...]], Floats]
"""Positions among the m members -> the cross-fitted predictions (n, k) of the ensemble without these members."""

FEWEST_DRAWS, DRAWN_ROWS = 50, 50_000_000


@dataclass(frozen=True)
class Contribution:
    """One member's contribution to an ensemble.

    gain: the improvement of the ensemble's score by the member, positive if it helps whatever the metric's
    direction; None for a single member.  disagreement: the share of rows on which its label differs from another
    member's, averaged over the other members.
    """

    gain: Estimate | None
    disagreement: float


def contributions(
    metric: Metric,
    ensemble_probs: Floats,
    predict_without: PredictWithout,
    probs: Floats,
    targets: Ints,
    groups: Texts | None,
) -> list[Contribution]:
    """Each member's contribution. ensemble_probs: cross-fitted, (n, k).  probs: (m, n, k) of the same rows.

    targets: (n,), all known.  groups: (n,) or None.  `predict_without` is called once per member.
    """
    gains = _gains(metric, ensemble_probs, predict_without, len(probs), targets, groups)
    disagreements = disagreement(_labels(probs), probs.shape[2])
    return [
        Contribution(gain and gain.estimate, differing_share)
        for gain, differing_share in zip(gains, disagreements, strict=True)
    ]


def _gains(
    metric: Metric,
    ensemble_probs: Floats,
    predict_without: PredictWithout,
    m: int,
    targets: Ints,
    groups: Texts | None,
) -> list[Difference] | list[None]:
    if m == 1:
        return [None]
    count = min(PAIRED_DRAWS, max(FEWEST_DRAWS, DRAWN_ROWS // (m * len(targets))))
    reduced = (predict_without((position,)) for position in range(m))
    return [gap.gain(metric) for gap in differences(metric, ensemble_probs, reduced, targets, groups, count)]


def _labels(probs: Floats) -> npt.NDArray[np.int32]:
    out = np.empty(probs.shape[:2], np.int32)
    for row, member in zip(out, probs, strict=True):
        row[:] = labels(member)
    return out


def disagreement(member_labels: npt.NDArray[np.integer], k: int) -> list[float]:
    """For each member the mean over the others of the share of rows with a different label; 0 for a single member.

    member_labels: (m, n), among k classes. Computed from vote counts, in m passes instead of m squared.
    """
    m, n = member_labels.shape
    rows, votes = np.arange(n), np.zeros((n, k), np.int32)
    for own_labels in member_labels:
        votes[rows, own_labels] += 1
    return [
        float(np.sum(m - votes[rows, own_labels], dtype=np.int64)) / (n * max(m - 1, 1))
        for own_labels in member_labels
    ]


def only_right(hits: npt.NDArray[np.bool_]) -> list[int]:
    """The number of rows that only this member gets right, per member. hits: bool (m, n), label equals target."""
    unique_hits = hits[:, hits.sum(axis=0) == 1]
    return [int(count) for count in unique_hits.sum(axis=1)]


TEMPERATURE_ROWS, TEMPERATURE_CELLS, FEWEST_ROWS = 2_000, 500_000, 500
"""Number of a fold's training rows on which the temperature is refitted without some members; fewer rows if there
are many classes."""


@dataclass(frozen=True)
class _Rows:
    """Some rows predicted by one fit. probs: (m, n, k) of the members of `fitted`."""

    fitted: Fitted
    probs: Floats

    @cached_property
    def terms(self) -> Floats:
        """float32 (m, n, k): the term of each member."""
        rule, params = self.fitted.rule, self.fitted.params
        return np.stack([rule.term(params, j, member).astype(np.float32) for j, member in enumerate(self.probs)])

    @cached_property
    def total(self) -> Wide:
        """float64 (n, k): the sum of the terms."""
        total: Wide = self.terms.sum(axis=0, dtype=np.float64)
        return total

    def without(self, removed: Sequence[int]) -> Wide:
        """float64 (n, k): predictions with renormalised weights; a plain mean if no weight remains."""
        rule, params = self.fitted.rule, self.fitted.params
        share_left = 1 - rule.shares(params)[list(removed)].sum(axis=0)
        if (share_left > 1e-6).all():
            rest = self.total - sum(self.terms[j].astype(np.float64) for j in removed)
            return rule.finish(
                params, np.maximum(rest, 0) / share_left if (self.terms >= 0).all() else rest / share_left
            )
        remaining = [j for j in range(len(self.probs)) if j not in removed]
        return normalised(np.mean([self.probs[j].astype(np.float64) for j in remaining], axis=0))


@dataclass(frozen=True)
class _Fold:
    """The rows of one fold, and a sample of the rows that its fit was trained on, with their targets."""

    held_out: _Rows
    training: _Rows
    targets: Ints

    def without(self, removed: Sequence[int], refit_temperature: bool) -> Probs:
        """float32 (n, k). refit_temperature: whether to fit and apply a temperature, if there was one."""
        mixed = self.held_out.without(removed)
        if refit_temperature and self.held_out.fitted.temperature is not None:
            # the fitted temperature belongs to the mean that includes the removed members
            mixed = apply_temperature(mixed, fit_temperature(self.training.without(removed), self.targets))
        return mixed.astype(np.float32)


class WithoutMembers:
    """Positions among the kept members -> predictions (n, k) of `rows` by the ensemble without these members.

    Each fold is predicted by the fit without that fold. The weights of the remaining members are only renormalised
    and the temperature is refitted: the cost of leaving a member out, not the score of a newly fitted ensemble.
    refit_temperature: whether the score depends on the temperature; if False no temperature is applied.
    """

    def __init__(
        self, kept: Sequence[int], evaluation: Evaluation, pool: Pool, rows: Ints, refit_temperature: bool
    ) -> None:
        self.kept, self.refit_temperature, self.shape = kept, refit_temperature, (len(rows), pool.probs.shape[2])
        folds = evaluation.folds
        self.folds = [
            (
                np.flatnonzero(folds.fold[rows] == fold),
                self._fold(evaluation.fits.fits[fold], pool, folds, fold, rows),
            )
            for fold in folds.names
        ]

    def _fold(self, fitted: Fitted, pool: Pool, folds: Folds, fold: int, rows: Ints) -> _Fold:
        members, outside, k = fitted.selection.kept, folds.without(fold), self.shape[1]
        training_rows = (
            outside[enough_rows(len(outside), k, min(TEMPERATURE_CELLS, TEMPERATURE_ROWS * k), FEWEST_ROWS)]
            if self.refit_temperature
            else outside[:0]
        )
        held_out_rows = rows[folds.fold[rows] == fold]
        held_out, training = (
            _Rows(fitted, pool.take(members, held_out_rows)),
            _Rows(fitted, pool.take(members, training_rows)),
        )
        return _Fold(held_out, training, pool.targets[training_rows])

    def __call__(self, positions: tuple[int, ...]) -> Probs:
        out = np.empty(self.shape, np.float32)
        removed = {self.kept[position] for position in positions}
        for fold_rows, fold in self.folds:
            members = fold.held_out.fitted.selection.kept
            fold_positions = [j for j, index in enumerate(members) if index in removed]
            # if all members of a fold are removed, its prediction stays unchanged
            out[fold_rows] = fold.without(
                fold_positions if len(fold_positions) < len(members) else [], self.refit_temperature
            )
        return out
