"""The items of all splits in one table: what every part of the check looks at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ensemble.data.dataset import Dataset
from ensemble.predictions import Ints, Texts


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
