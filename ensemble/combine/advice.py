"""Recommendation of the architecture to train next, from error covariances, and when to stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ensemble.combine.arrays import quadratic
from ensemble.core.predictions import Floats, Ints, Wide

ENOUGH = 0.01
"""The smallest predicted relative reduction of the Brier score for which another member is recommended."""

Mask = npt.NDArray[np.bool_]

BLOCK = 2_000_000
"""Number of values converted to float64 at a time."""


@dataclass(frozen=True)
class NextMember:
    """The predicted effect of one more member of an architecture.

    gain: predicted relative reduction of the Brier score, with optimal weights before and after.
    correlation: mean correlation of its members' errors with those of the other architectures, or with each
    other if there are no others.  brier: the mean Brier score of its members.
    """

    arch: str
    gain: float
    correlation: float
    brier: float


@dataclass(frozen=True)
class Advice:
    """ranking: the architectures, the largest gain first; empty if no gain can be predicted."""

    ranking: tuple[NextMember, ...]
    stop: bool
    sentence: str


def advise(probs: Floats, targets: Ints, archs: Sequence[str], untrained: Sequence[str] = ()) -> Advice:
    """Rank the architectures `archs` (m,) by the gain of one more member: probs (m, n, k), targets (n,), all known.

    The rows must not have been trained on by any member. The Brier score of a weighted mean is w'Cw with C the
    covariances of the errors (Krogh & Vedelsby 1995), so one more member is predicted by extending C with the row
    of a member of the same architecture. untrained: names among `archs` that cannot be trained here.
    """
    covariances = error_covariances(probs, targets)
    if len(archs) == 1:
        return Advice((), False, _ALONE)
    before = _lowest(covariances)
    if before <= 1e-12:
        return Advice((), True, "Stop: on these images there are no errors left to mend.")
    candidates = [_predicted_gain(covariances, archs, arch, before) for arch in sorted(set(archs) - set(untrained))]
    if not candidates:
        return Advice((), False, "All of these come from elsewhere: what to train next cannot be told from them.")
    ranking = tuple(sorted(candidates, key=lambda entry: (-entry.gain, entry.arch)))
    return Advice(ranking, ranking[0].gain < ENOUGH, _sentence(ranking, len(set(archs)) < len(archs)))


def error_covariances(probs: Floats, targets: Ints) -> Wide:
    """C float64 (m, m): the mean over rows of the inner products of the errors, probs minus one-hot targets.

    The diagonal holds the members' Brier scores. Rows are converted to float64 in blocks, to bound memory.
    """
    m, n, k = probs.shape
    total = np.zeros((m, m))
    step = max(1, BLOCK // (m * k))
    for start in range(0, n, step):
        errors = probs[:, start : start + step].astype(np.float64)
        rows = np.arange(errors.shape[1])
        errors[:, rows, targets[start : start + step]] -= 1
        flat = errors.reshape(m, -1)
        total += flat @ flat.T
    covariances: Wide = total / n
    return covariances


def _lowest(covariances: Wide) -> float:
    """The minimum of w'Cw over non-negative weights that sum to one."""
    m = len(covariances)
    # identical members leave the weights undetermined; a small ridge splits the weight between them
    ridge = 1e-9 * np.trace(covariances) / m * np.eye(m)
    weights = quadratic(covariances + ridge, np.zeros(m))
    return float(weights @ covariances @ weights)


def _predicted_gain(covariances: Wide, archs: Sequence[str], arch: str, before: float) -> NextMember:
    of_arch = np.array([name == arch for name in archs])
    after = _lowest(nearest_semidefinite(_with_sibling(covariances, archs, of_arch)))
    between = error_correlations(covariances)[of_arch][:, of_arch if of_arch.all() else ~of_arch]
    agreement = (between.sum() - len(of_arch)) / (between.size - len(of_arch)) if of_arch.all() else between.mean()
    # another member can get weight 0, so that a negative gain is a rounding error
    return NextMember(
        arch, max(0.0, 1 - after / before), float(agreement), float(np.diag(covariances)[of_arch].mean())
    )


def _with_sibling(covariances: Wide, archs: Sequence[str], of_arch: Mask) -> Wide:
    """C (m + 1, m + 1) with one more member like those of the mask `of_arch` (m,), trained with another seed."""
    brier = float(np.diag(covariances)[of_arch].mean())
    row = covariances[of_arch].mean(axis=0)
    row[of_arch] = brier * _seed_correlation(covariances, archs, of_arch)
    return np.block([[covariances, row[:, None]], [row[None, :], np.full((1, 1), brier)]])


def _seed_correlation(covariances: Wide, archs: Sequence[str], of_arch: Mask) -> float:
    """The expected error correlation of two members of one architecture trained with different seeds.

    The mean over pairs of this architecture, otherwise over pairs within other architectures. Without any such
    pair it is a guess: halfway between 1 and the largest correlation of any two members, since seeds of one
    architecture seldom correlate less than that.
    """
    correlations = error_correlations(covariances)
    pairs: Mask = np.triu(np.ones(correlations.shape, bool), 1)
    same: Mask = pairs & (np.array(archs)[:, None] == np.array(archs)[None, :])
    same_arch: Mask = same & np.outer(of_arch, of_arch)
    for mask in (same_arch, same):
        if mask.any():
            return float(correlations[mask].mean())
    return float(1 + correlations[pairs].max()) / 2


def error_correlations(covariances: Wide) -> Wide:
    """Correlations of the errors, float64 (m, m), from `error_covariances`."""
    scale = np.sqrt(np.maximum(np.diag(covariances), np.finfo(float).tiny))
    correlations: Wide = covariances / np.outer(scale, scale)
    return correlations


def nearest_semidefinite(covariances: Wide) -> Wide:
    """The nearest positive semidefinite matrix: the added row need not be consistent with the others.

    Clipping eigenvalues at 0 does not reduce any w'Cw, so that no unattainable gain is predicted.
    """
    values, vectors = np.linalg.eigh(covariances)
    nearest: Wide = (vectors * np.maximum(values, 0)) @ vectors.T
    return nearest


_ALONE = (
    "One member alone says nothing of what would help it: train another architecture next, or this one with"
    " another seed, and ask again."
)


def _sentence(ranking: tuple[NextMember, ...], seeds: bool) -> str:
    best = ranking[0]
    percent = f"{100 * best.gain:.1f} %" + ("" if seeds else ", a guess while no architecture has two seeds")
    if best.gain < ENOUGH:
        return (
            f"Another of these would change little (the best, {best.arch}: predicted Brier -{percent}):"
            " stop, or try an architecture that is not here."
        )
    return f"Train another {best.arch} next: {_reason(ranking)} (predicted Brier -{percent})."


def _reason(ranking: tuple[NextMember, ...]) -> str:
    best = ranking[0]
    if len(ranking) == 1:
        return "its errors differ enough from one seed to another"
    if best.correlation == min(entry.correlation for entry in ranking):
        return "its errors agree least with the others'"
    if best.brier == min(entry.brier for entry in ranking):
        return "it errs least"
    return "it weighs few errors against errors unlike the others' best"
