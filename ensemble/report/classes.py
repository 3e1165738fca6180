"""What predictions do to each class: counts, precision, recall, F1, specificity, AUC, and how even they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ensemble.combine.aligned import gather
from ensemble.core.errors import DataError
from ensemble.core.predictions import UNKNOWN, Floats, Ints, Texts
from ensemble.metrics import find
from ensemble.metrics.classification import labels
from ensemble.runs.run import Run


@dataclass(frozen=True)
class Labelled:
    """A run's rows whose target is known: probs (n, k), targets (n,), groups (n,) or None."""

    ids: Texts
    probs: Floats
    targets: Ints
    classes: tuple[str, ...]
    groups: Texts | None

    @property
    def predicted(self) -> Ints:
        """The most probable class of each row, int64 (n,)."""
        return labels(self.probs)


def labelled(runs: Sequence[Run], split: str = "valid") -> list[Labelled]:
    """The labelled rows of each run, all in one order. Raises MismatchedRuns, and DataError without labels."""
    found = gather(runs, split)
    rows = found.targets != UNKNOWN
    if not rows.any():
        raise DataError(f"{runs[0].id}/{split}.npz has no labels to compare with; name a split that has")
    groups = None if found.groups is None else found.groups[rows]
    classes = tuple(found.classes.tolist())
    ids, targets = found.ids[rows], found.targets[rows]
    return [Labelled(ids, probs[rows], targets, classes, groups) for probs in found.probs]


def confusion(rows: Labelled) -> npt.NDArray[np.int64]:
    """int64 (k, k): row the true class, column the predicted one."""
    k = len(rows.classes)
    return np.bincount(rows.targets * k + rows.predicted, minlength=k * k).reshape(k, k)


@dataclass(frozen=True)
class ClassScores:
    """One class against the rest; nan where nothing decides it (no such row, never predicted)."""

    name: str
    tp: int
    fn: int
    fp: int
    tn: int
    auc: float

    @property
    def rows(self) -> int:
        """Of this class."""
        return self.tp + self.fn

    @property
    def precision(self) -> float:
        """Of those called so, the share that is."""
        return _share(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Of those that are, the share called so: the sensitivity."""
        return _share(self.tp, self.rows)

    @property
    def specificity(self) -> float:
        """Of those that are not, the share not called so."""
        return _share(self.tn, self.tn + self.fp)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return _share(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def class_scores(rows: Labelled) -> list[ClassScores]:
    """Every class, in order."""
    counts = confusion(rows)
    roc = find("roc_auc", rows.classes)
    assert roc.for_class is not None
    found = []
    for c, name in enumerate(rows.classes):
        tp = int(counts[c, c])
        fn, fp = int(counts[c].sum()) - tp, int(counts[:, c].sum()) - tp
        auc = roc.for_class(c)(rows.probs, rows.targets)
        found.append(ClassScores(name, tp, fn, fp, int(counts.sum()) - tp - fn - fp, auc))
    return found


@dataclass(frozen=True)
class Balance:
    """How even recall is over the classes that have rows. spread: the standard deviation."""

    mean: float
    lowest: float
    worst: str
    spread: float


def balance(scores: list[ClassScores]) -> Balance:
    """The mean is the balanced accuracy."""
    known = [one for one in scores if one.rows]
    recalls = np.array([one.recall for one in known])
    worst = known[int(recalls.argmin())]
    return Balance(float(recalls.mean()), worst.recall, worst.name, float(recalls.std()))
