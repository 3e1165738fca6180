"""What to train next: the architecture whose errors would help most, and when to stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ensemble.combine.arrays import quadratic
from ensemble.core.predictions import Floats, Ints, Wide

ENOUGH = 0.01
"""One more member that is predicted to lower the Brier score by a smaller part than this is not worth it."""

Mask = npt.NDArray[np.bool_]

_BLOCK = 2_000_000
"""Numbers widened to float64 at a time."""


@dataclass(frozen=True)
class Next:
    """One more member of an architecture.

    gain: the part of the Brier score that it is predicted to take away, with the best weights before and after.
    correlation: how much its members' errors agree with those of the other architectures, or with each other
    where there are no others.  brier: the mean Brier score of its members.
    """

    arch: str
    gain: float
    correlation: float
    brier: float


@dataclass(frozen=True)
class Advice:
    """ranking: the architectures, the most useful first; empty where one member is no ground to judge on."""

    ranking: tuple[Next, ...]
    stop: bool
    sentence: str


def advise(probs: Floats, targets: Ints, archs: Sequence[str], untrained: Sequence[str] = ()) -> Advice:
    """Which of the architectures `archs` (m,) to train once more: probs (m, n, k), targets (n,), all known.

    The rows must be ones that no member was trained on. The Brier score of a weighted mean is w'Cw with C the
    covariances of the errors (Krogh & Vedelsby 1995), so one more member is predicted by adding to C what a
    sibling would add. untrained: names among `archs` that nobody here can train once more.
    """
    covariances = error_covariances(probs, targets)
    if len(archs) == 1:
        return Advice((), False, _ALONE)
    before = _lowest(covariances)
    if before <= 1e-12:
        return Advice((), True, "Stop: on these images there are no errors left to mend.")
    found = [_judged(covariances, archs, arch, before) for arch in sorted(set(archs) - set(untrained))]
    if not found:
        return Advice((), False, "All of these come from elsewhere: what to train next cannot be told from them.")
    ranking = tuple(sorted(found, key=lambda one: (-one.gain, one.arch)))
    return Advice(ranking, ranking[0].gain < ENOUGH, _sentence(ranking, len(set(archs)) < len(archs)))


def error_covariances(probs: Floats, targets: Ints) -> Wide:
    """C float64 (m, m): the mean over rows of the errors' inner products, an error being probs less one-hot.

    The diagonal holds the members' Brier scores. Rows are widened block by block.
    """
    m, n, k = probs.shape
    total = np.zeros((m, m))
    step = max(1, _BLOCK // (m * k))
    for start in range(0, n, step):
        errors = probs[:, start : start + step].astype(np.float64)
        rows = np.arange(errors.shape[1])
        errors[:, rows, targets[start : start + step]] -= 1
        flat = errors.reshape(m, -1)
        total += flat @ flat.T
    covariances: Wide = total / n
    return covariances


def _lowest(covariances: Wide) -> float:
    """The least w'Cw over weights that are not negative and sum to one."""
    m = len(covariances)
    # twins leave the weights open; a touch of the diagonal shares between them
    ridge = 1e-9 * np.trace(covariances) / m * np.eye(m)
    weights = quadratic(covariances + ridge, np.zeros(m))
    return float(weights @ covariances @ weights)


def _judged(covariances: Wide, archs: Sequence[str], arch: str, before: float) -> Next:
    mine = np.array([one == arch for one in archs])
    after = _lowest(_positive(_with_sibling(covariances, archs, mine)))
    between = error_correlations(covariances)[mine][:, mine if mine.all() else ~mine]
    agreement = (between.sum() - len(mine)) / (between.size - len(mine)) if mine.all() else between.mean()
    # a member that only adds can be given no weight, so a loss here is rounding
    return Next(arch, max(0.0, 1 - after / before), float(agreement), float(np.diag(covariances)[mine].mean()))


def _with_sibling(covariances: Wide, archs: Sequence[str], mine: Mask) -> Wide:
    """C (m + 1, m + 1) with one more member like those of `mine` (m,), trained with another seed."""
    own = float(np.diag(covariances)[mine].mean())
    row = covariances[mine].mean(axis=0)
    row[mine] = own * _seed_correlation(covariances, archs, mine)
    return np.block([[covariances, row[:, None]], [row[None, :], np.full((1, 1), own)]])


def _seed_correlation(covariances: Wide, archs: Sequence[str], mine: Mask) -> float:
    """How much the errors of two members of one architecture agree.

    Seen in this architecture, else in others with two members or more. Else a guess: halfway between the highest
    of any two members, than which seeds of one architecture seldom agree less, and one.
    """
    correlations = error_correlations(covariances)
    pairs: Mask = np.triu(np.ones(correlations.shape, bool), 1)
    same: Mask = pairs & (np.array(archs)[:, None] == np.array(archs)[None, :])
    here: Mask = same & np.outer(mine, mine)
    for known in (here, same):
        if known.any():
            return float(correlations[known].mean())
    return float(1 + correlations[pairs].max()) / 2


def error_correlations(covariances: Wide) -> Wide:
    """float64 (m, m) of `error_covariances`."""
    scale = np.sqrt(np.maximum(np.diag(covariances), np.finfo(float).tiny))
    correlations: Wide = covariances / np.outer(scale, scale)
    return correlations


def _positive(covariances: Wide) -> Wide:
    """The nearest covariances that errors can have: a made-up row need not be consistent with the others.

    No w'Cw becomes smaller by it, so that nothing is promised that no member could keep.
    """
    values, vectors = np.linalg.eigh(covariances)
    nearest: Wide = (vectors * np.maximum(values, 0)) @ vectors.T
    return nearest


_ALONE = (
    "One member alone says nothing of what would help it: train another architecture next, or this one with"
    " another seed, and ask again."
)


def _sentence(ranking: tuple[Next, ...], seeds: bool) -> str:
    best = ranking[0]
    percent = f"{100 * best.gain:.1f} %" + ("" if seeds else ", a guess while no architecture has two seeds")
    if best.gain < ENOUGH:
        return (
            f"Another of these would change little (the best, {best.arch}: predicted Brier -{percent}):"
            " stop, or try an architecture that is not here."
        )
    return f"Train another {best.arch} next: {_reason(ranking)} (predicted Brier -{percent})."


def _reason(ranking: tuple[Next, ...]) -> str:
    best = ranking[0]
    if len(ranking) == 1:
        return "its errors differ enough from one seed to another"
    if best.correlation == min(one.correlation for one in ranking):
        return "its errors agree least with the others'"
    if best.brier == min(one.brier for one in ranking):
        return "it errs least"
    return "it weighs few errors against errors unlike the others' best"
