"""The nouns of data: a split is `Items`, all splits together are a `Dataset`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ensemble.predictions import Ints, Texts

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Items:
    """The n items of one split.

    ids: str (n,), unique, `/`-separated, NFC.  paths: str (n,), relative to the data set's root.
    targets: int64 (n,), an index into the data set's classes, -1 where unknown.
    groups: str (n,) or None.  soft: float32 (n, k) or None, label probabilities where the recipe asks.
    taught: float32 (n, k) or None, what a student is to learn beside the labels, softened.
    """

    ids: Texts
    paths: Texts
    targets: Ints
    groups: Texts | None = None
    soft: npt.NDArray[np.float32] | None = None
    taught: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: npt.ArrayLike) -> Items:
        """The items at `rows`: indices or a mask (n,)."""
        rows = np.asarray(rows)
        return Items(
            ids=self.ids[rows],
            paths=self.paths[rows],
            targets=self.targets[rows],
            groups=None if self.groups is None else self.groups[rows],
            soft=None if self.soft is None else self.soft[rows],
            taught=None if self.taught is None else self.taught[rows],
        )


@dataclass(frozen=True)
class Dataset:
    """Everything that a recipe's `data` stands for.

    classes: str (k,).  splits: `train`, `valid`, perhaps `test`, and `test-<name>` for each further test set.
    fingerprint: hex sha256 of train and valid (ids, content, labels, split, groups; not paths, not test).
    test_fingerprints: the same for every test split by its name.
    open_image: path (an entry of Items.paths) -> upright 8-bit RGB image; raises DataError.
    content: path -> hex sha256 of what is there.
    background: what lies behind transparent pixels, where there are any.
    """

    classes: Texts
    splits: Mapping[str, Items]
    fingerprint: str
    test_fingerprints: Mapping[str, str]
    open_image: Callable[[str], Image.Image]
    content: Mapping[str, str] = field(default_factory=dict)
    background: tuple[int, int, int] | None = None

    @property
    def tests(self) -> dict[str, Items]:
        """The test splits: `test` and every `test-<name>`."""
        return {name: items for name, items in self.splits.items() if name.split("-")[0] == "test"}
