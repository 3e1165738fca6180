"""All items in one table, and the class counts of each split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ensemble.core.names import READ_AS_MISSING
from ensemble.core.predictions import UNKNOWN, Ints, Texts
from ensemble.data.dataset import Dataset


@dataclass(frozen=True)
class AllItems:
    """n items of all splits, split after split.

    splits, ids, paths: str (n,).  targets: int64 (n,), -1 where unknown.  groups: str (n,), empty where unknown.
    content: int64 (n,), the same number where the same is there.  firsts: int64 (c,), for each such number the
    first item.  digests: str (c,), its sha256.
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
