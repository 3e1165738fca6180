"""Items of a split, the data set of all splits, its fingerprint, and train and valid pooled into folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ensemble.core.errors import DataError, RecipeError, first_few
from ensemble.core.files import sha256_json
from ensemble.core.predictions import Ints, Texts
from ensemble.data.splits import stratified_folds

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


def fingerprint(splits: Mapping[str, Items], classes: Texts, content: Mapping[str, str]) -> str:
    """Hex sha256 of train and valid: split, id, label, group, content of every row, and the class order.

    content: path -> sha256 of what is there.
    """
    rows = [
        [split, *row]
        for split in ("train", "valid")
        if split in splits
        for row in _rows(splits[split], classes, content)
    ]
    return sha256_json({"classes": classes.tolist(), "rows": sorted(rows, key=_place)})


def fingerprint_of_test(items: Items, classes: Texts, content: Mapping[str, str]) -> str:
    """Hex sha256 of one test set: id, label and content of every row."""
    rows = [[row[0], row[1], row[3]] for row in _rows(items, classes, content)]
    return sha256_json(sorted(rows, key=lambda row: row[0]))


def _place(row: list[Any]) -> tuple[str, str]:
    return row[0], row[1]


def _rows(items: Items, classes: Texts, content: Mapping[str, str]) -> list[list[Any]]:
    """[id, label or its probabilities, group, content] of every item."""
    labels: list[Any]
    if items.soft is not None:
        labels = items.soft.tolist()
    else:
        names = [*classes.tolist(), None]
        labels = [names[target] for target in items.targets.tolist()]  # UNKNOWN is -1, the last
    groups = items.groups.tolist() if items.groups is not None else [None] * len(items)
    digests = [content[path] for path in items.paths.tolist()]
    return [list(row) for row in zip(items.ids.tolist(), labels, groups, digests, strict=True)]


def fold_of(dataset: Dataset, n_folds: int, fold: int, split_seed: int) -> Dataset:
    """The data set with train and valid pooled and then divided: valid is fold `fold`, train is the rest.

    The folds are stratified, never divide a group, and depend on ids, groups and seed alone. Raises
    DataError for an id that both splits have, and where any fold would be empty or leave its train without a class:
    of the first fold already, so that nothing is trained for folds that cannot all be.
    """
    if not 0 <= fold < n_folds:
        raise RecipeError(f"fold {fold} found, 0 to {n_folds - 1} expected")
    pool = pooled(dataset)
    folds = stratified_folds(pool.ids, pool.targets, n_folds, split_seed, pool.groups)
    _check_folds(folds, n_folds, pool, dataset.classes)
    mask = folds == fold
    return replace(dataset, splits={**dataset.splits, "train": pool.take(~mask), "valid": pool.take(mask)})


def _check_folds(folds: Ints, n_folds: int, pool: Items, classes: Texts) -> None:
    for fold in range(n_folds):
        if not (folds == fold).any():
            raise DataError(f"fold {fold} of {n_folds} would be empty; set a smaller number of folds")
        lost = np.setdiff1d(pool.targets, pool.targets[folds != fold])
        if len(lost):
            raise DataError(
                f"fold {fold} of {n_folds} holds out every image of {first_few(classes[lost])};"
                " add images of it (of another group where there are groups), or set fewer folds"
            )


def refit_of(dataset: Dataset) -> Dataset:
    """The data set with train and valid pooled as train, and no valid. Raises DataError as `fold_of` does."""
    others = {split: items for split, items in dataset.splits.items() if split != "valid"}
    return replace(dataset, splits={**others, "train": pooled(dataset)})


def pooled(dataset: Dataset) -> Items:
    """The items of train and valid. Raises DataError for an id that both have."""
    parts = [dataset.splits[split] for split in ("train", "valid") if split in dataset.splits]
    ids = np.concatenate([items.ids for items in parts])
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        raise DataError(
            f"train and valid are to be pooled but {np.sum(counts > 1)} ids are in both:"
            f" {first_few(unique[counts > 1])}; rename the files or rows of one"
        )
    return Items(
        ids=ids,
        paths=np.concatenate([items.paths for items in parts]),
        targets=np.concatenate([items.targets for items in parts]),
        groups=_joined([items.groups for items in parts]),
        soft=_joined([items.soft for items in parts]),
    )


def _joined(arrays: list[Any]) -> Any:
    """The arrays in one, None where one of them is missing."""
    return None if any(array is None for array in arrays) else np.concatenate(arrays)
