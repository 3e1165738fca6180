"""How many images each class has in each split, and how unequal that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ensemble.data.dataset import Dataset
from ensemble.data.names import READ_AS_MISSING
from ensemble.predictions import UNKNOWN

FEW = 10
"""Training images below which a class is named."""


@dataclass(frozen=True)
class Counts:
    """classes: k names.  by_split: split -> k counts.  unlabelled: split -> rows without a label."""

    classes: tuple[str, ...]
    by_split: dict[str, list[int]]
    unlabelled: dict[str, int]

    @property
    def imbalance(self) -> float:
        """The largest class of train through the smallest; infinite where one is empty."""
        train = self.by_split["train"]
        return max(train) / min(train) if min(train) else float("inf")

    @property
    def few(self) -> list[str]:
        """Classes with fewer than `FEW` training images."""
        return [name for name, count in zip(self.classes, self.by_split["train"], strict=True) if count < FEW]

    @property
    def read_as_missing(self) -> list[str]:
        """Classes whose names pandas, and with it most scorers, take for no label."""
        return [name for name in self.classes if name in READ_AS_MISSING]

    def largest_shift(self) -> tuple[str, str, float] | None:
        """(split, class, difference of shares) of the labelled split that is least like train; None without one."""
        train = _shares(self.by_split["train"])
        found: list[tuple[str, str, float]] = []
        for split, counts in self.by_split.items():
            if split != "train" and any(counts):
                apart = _shares(counts) - train
                at = int(np.abs(apart).argmax())
                found.append((split, self.classes[at], float(apart[at])))
        return max(found, key=lambda entry: abs(entry[2]), default=None)


def counts_of(dataset: Dataset) -> Counts:
    """The counts of a data set; soft labels count as their most probable class."""
    k = len(dataset.classes)
    by_split = {
        split: np.bincount(items.targets[items.targets != UNKNOWN], minlength=k).tolist()
        for split, items in dataset.splits.items()
    }
    unlabelled = {split: int((items.targets == UNKNOWN).sum()) for split, items in dataset.splits.items()}
    return Counts(tuple(dataset.classes.tolist()), by_split, {s: count for s, count in unlabelled.items() if count})


def _shares(counts: list[int]) -> np.ndarray:
    return np.array(counts) / max(1, sum(counts))
