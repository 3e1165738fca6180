"""The items of all splits in one table, and class counts per split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ensemble.core.names import PANDAS_NA_VALUES
from ensemble.core.predictions import UNKNOWN, Ints, Texts
from ensemble.data.dataset import Dataset


@dataclass(frozen=True)
class AllItems:
    """The n items of all splits, concatenated.

    splits, ids, paths: str (n,).  targets: int64 (n,), -1 if unknown.  groups: str (n,), empty if unknown.
    content: int64 (n,), index of the distinct content.  firsts: int64 (c,), the first item of each of the c
    contents.  digests: str (c,), their sha256.
    """

    splits: Texts
    ids: Texts
    paths: Texts
    targets: Ints
    groups: Texts
    content: Ints
    firsts: Ints
    digests: Texts

    def __len__(self) -> int:
        return len(self.ids)

    def name(self, row: int) -> str:
        """`split/id`."""
        return f"{self.splits[row]}/{self.ids[row]}"


def all_items(dataset: Dataset) -> AllItems:
    """The items of `dataset` in the order of its splits."""
    parts = list(dataset.splits.items())
    paths = np.concatenate([items.paths for _, items in parts])
    digests, firsts, content = np.unique(
        [dataset.content[path] for path in paths.tolist()], return_index=True, return_inverse=True
    )
    return AllItems(
        splits=np.concatenate([np.full(len(items), split) for split, items in parts]),
        ids=np.concatenate([items.ids for _, items in parts]),
        paths=paths,
        targets=np.concatenate([items.targets for _, items in parts]),
        groups=np.concatenate(
            [np.full(len(items), "") if items.groups is None else items.groups for _, items in parts]
        ),
        content=content.reshape(-1).astype(np.int64),
        firsts=firsts.astype(np.int64),
        digests=digests,
    )


FEW = 10
"""Number of training images below which a class is reported."""


@dataclass(frozen=True)
class Counts:
    """Class counts. classes: k names.  by_split: split -> k counts.  unlabelled: split -> rows without a label."""

    classes: tuple[str, ...]
    by_split: dict[str, list[int]]
    unlabelled: dict[str, int]

    @property
    def imbalance(self) -> float:
        """Ratio of the largest to the smallest class of train; infinite if one is empty."""
        train = self.by_split["train"]
        return max(train) / min(train) if min(train) else float("inf")

    @property
    def few(self) -> list[str]:
        """Classes with fewer than `FEW` training images."""
        return [name for name, count in zip(self.classes, self.by_split["train"], strict=True) if count < FEW]

    @property
    def read_as_missing(self) -> list[str]:
        """Classes whose names pandas, and so most scorers, read as missing values."""
        return [name for name in self.classes if name in PANDAS_NA_VALUES]

    def largest_shift(self) -> tuple[str, str, float] | None:
        """(split, class, difference of shares) with the largest shift from train; None without such a split."""
        train = _shares(self.by_split["train"])
        shifts: list[tuple[str, str, float]] = []
        for split, counts in self.by_split.items():
            if split != "train" and any(counts):
                differences = _shares(counts) - train
                index = int(np.abs(differences).argmax())
                shifts.append((split, self.classes[index], float(differences[index])))
        return max(shifts, key=lambda shift: abs(shift[2]), default=None)


def counts_of(dataset: Dataset) -> Counts:
    """Class counts of a data set; soft labels count as their most probable class."""
    k = len(dataset.classes)
    by_split = {
        split: np.bincount(items.targets[items.targets != UNKNOWN], minlength=k).tolist()
        for split, items in dataset.splits.items()
    }
    unlabelled = {split: int((items.targets == UNKNOWN).sum()) for split, items in dataset.splits.items()}
    return Counts(tuple(dataset.classes.tolist()), by_split, {s: count for s, count in unlabelled.items() if count})


def _shares(counts: list[int]) -> np.ndarray:
    return np.array(counts) / max(1, sum(counts))
