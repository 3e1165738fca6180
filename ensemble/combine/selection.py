"""Which candidates enter an ensemble: a pure function of ids, architectures and accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ensemble.errors import NothingPassed


@dataclass(frozen=True)
class Selection:
    """kept: indices of the chosen candidates, ascending.  reasons: for every candidate, why it is in or out.

    passed: how many were above the threshold.
    """

    kept: tuple[int, ...]
    reasons: tuple[str, ...]
    passed: int


def select(
    ids: Sequence[str],
    archs: Sequence[str],
    accuracies: Sequence[float],
    *,
    threshold: float = 0.0,
    per_arch: int = 1,
) -> Selection:
    """Keep every candidate strictly above `threshold`, and fill each architecture up to `per_arch`.

    The next best fill up; ties go to the smaller id. Raises NothingPassed when nothing is chosen, which takes
    `per_arch` 0.
    """
    best_first = sorted(range(len(ids)), key=lambda i: (-accuracies[i], ids[i]))
    above = [i for i in best_first if accuracies[i] > threshold]
    reasons = [f"not above {threshold:g}"] * len(ids)
    taken: dict[str, int] = {}
    for i in above:
        reasons[i] = f"above {threshold:g}"
        taken[archs[i]] = taken.get(archs[i], 0) + 1
    kept = set(above)
    for i in best_first:
        if i not in kept and taken.get(archs[i], 0) < per_arch:
            kept.add(i)
            taken[archs[i]] = taken.get(archs[i], 0) + 1
            reasons[i] = f"next best {archs[i]}"
    if not kept:
        raise NothingPassed(_nothing(ids, accuracies, best_first, threshold))
    return Selection(tuple(sorted(kept)), tuple(reasons), len(above))


def _nothing(ids: Sequence[str], accuracies: Sequence[float], best_first: Sequence[int], threshold: float) -> str:
    best = ", ".join(f"{ids[i]} {accuracies[i]:.4f}" for i in best_first[:5])
    return (
        f"none of {len(ids)} members is above {threshold:g}; the best are {best};"
        " lower --threshold, or take the best of each architecture with --per-arch 1"
    )
