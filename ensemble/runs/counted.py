"""Targets that count the classes from another number than the names of these: from 0 where the names start at 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ensemble.metrics import labels
from ensemble.predictions import Floats, Ints, Predictions, Texts

SURE = 3.0
"""Standard errors that separate two readings of the targets."""

Flags = npt.NDArray[np.bool_]


def shift_of(targets: Sequence[str], classes: Sequence[str]) -> int | None:
    """1 or -1, where classes are numbers without a gap and `targets` fit once it is added to them; else None.

    They do not fit as they are: a number occurs that is no class, and the class at the other end does not.
    """
    numbers, found = _whole(classes), _whole([name for name in set(targets) if name])
    if numbers is None or found is None or not found:
        return None
    low, high = min(numbers), max(numbers)
    if len(numbers) < 2 or sorted(numbers) != list(range(low, high + 1)):
        return None
    for step, other, unused in ((1, low - 1, high), (-1, high + 1, low)):
        if other in found and unused not in found and all(low <= one + step <= high for one in found):
            return step
    return None


def fits_better(probs: Floats, named: Ints, shifted: Ints) -> bool:
    """Whether the most probable classes of probs (n, k) are `shifted` (n,) more often than `named` and than chance.

    A target of -1, unknown, is never right.
    """
    likely = labels(probs)
    right = likely == shifted
    return _clearly(right, likely == named) and _above_chance(right[shifted >= 0], probs.shape[1])


def note_of(ours: Predictions) -> str | None:
    """A line where the most probable class is often the one beside the target, and rarely the target."""
    if ours.targets is None:
        return None
    known = ours.labelled
    likely, targets, k = labels(ours.probs[known]), ours.targets[known], len(ours.classes)
    right = likely == targets
    # with few classes the class beside is that of many confusions
    if not known.any() or right.mean() >= 1 / k:
        return None
    place = _places(ours.classes)
    for step, beside in ((1, "after"), (-1, "before")):
        moved: Flags = place[likely] == place[targets] + step
        if _clearly(moved, right) and _above_chance(moved, k):
            return (
                f"the accuracy is {right.mean():.4f}, below chance ({1 / k:.4f}); with the class {beside} each"
                f" target it would be {moved.mean():.4f}: are targets counted from another number than classes?"
            )
    return None


def _places(classes: Texts) -> Ints:
    """The places (k,) of the classes in the order of their numbers, else in their own."""
    numbers = _whole(classes.tolist())
    return np.arange(len(classes)) if numbers is None else np.argsort(np.argsort(numbers, kind="stable"))


def _whole(names: Sequence[str]) -> list[int] | None:
    """The names as whole numbers; None where one is not written as these are, as in `01`."""
    plain = all(name.isascii() and (name.isdigit() or (name[:1] == "-" and name[1:].isdigit())) for name in names)
    return [int(name) for name in names] if plain and all(str(int(name)) == name for name in names) else None


def _clearly(first: Flags, second: Flags) -> bool:
    """Whether `first` (n,) is right more often than `second`: the rows on which they differ are not even."""
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    return bool(gained - lost >= SURE * np.sqrt(gained + lost) > 0)


def _above_chance(right: Flags, k: int) -> bool:
    return bool(right.mean() > 1 / k + SURE * np.sqrt((1 / k) * (1 - 1 / k) / len(right)))
