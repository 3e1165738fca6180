"""Per-class scores of predictions: counts, precision, recall, F1, specificity, AUC, and the spread of recall."""

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
    """A run's rows with a known target: probs (n, k), targets (n,), groups (n,) or None."""

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
    """The labelled rows of each run, all in the same order. Raises MismatchedRuns; DataError without labels."""
    predictions = gather(runs, split)
    rows = predictions.targets != UNKNOWN
    if not rows.any():
        raise DataError(f"{runs[0].id}/{split}.npz has no labels to compare with; name a split that has")
    groups = None if predictions.groups is None else predictions.groups[rows]
    classes = tuple(predictions.classes.tolist())
    ids, targets = predictions.ids[rows], predictions.targets[rows]
    return [Labelled(ids, probs[rows], targets, classes, groups) for probs in predictions.probs]


def confusion(rows: Labelled) -> npt.NDArray[np.int64]:
    """Confusion matrix, int64 (k, k): rows are true classes, columns predicted ones."""
    k = len(rows.classes)
    return np.bincount(rows.targets * k + rows.predicted, minlength=k * k).reshape(k, k)


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class against the rest; nan where undefined (class without rows, or never predicted)."""

    name: str
    tp: int
    fn: int
    fp: int
    tn: int
    auc: float

    @property
    def rows(self) -> int:
        """Rows whose true class this is."""
        return self.tp + self.fn

    @property
    def precision(self) -> float:
        """tp / (tp + fp)."""
        return _share(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """tp / (tp + fn), the sensitivity."""
        return _share(self.tp, self.rows)

    @property
    def specificity(self) -> float:
        """tn / (tn + fp)."""
        return _share(self.tn, self.tn + self.fp)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return _share(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def class_scores(rows: Labelled) -> list[ClassScores]:
    """The scores of every class, in class order."""
    counts = confusion(rows)
    roc = find("roc_auc", rows.classes)
    assert roc.for_class is not None
    scores = []
    for c, name in enumerate(rows.classes):
        tp = int(counts[c, c])
        fn, fp = int(counts[c].sum()) - tp, int(counts[:, c].sum()) - tp
        auc = roc.for_class(c)(rows.probs, rows.targets)
        scores.append(ClassScores(name, tp, fn, fp, int(counts.sum()) - tp - fn - fp, auc))
    return scores


@dataclass(frozen=True)
class Balance:
    """Recall over the classes that have rows: mean, lowest and its class, standard deviation (`spread`)."""

    mean: float
    lowest: float
    worst: str
    spread: float


def balance(scores: list[ClassScores]) -> Balance:
    """The balance of recall; its mean is the balanced accuracy."""
    known = [score for score in scores if score.rows]
    recalls = np.array([score.recall for score in known])
    worst = known[int(recalls.argmin())]
    return Balance(float(recalls.mean()), worst.recall, worst.name, float(recalls.std()))
