"""Items of a split, the data set of all splits, its fingerprint, and the pooling of train and valid into folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ensemble.core.errors import DataError, RecipeError, first_few
from ensemble.core.files import sha256_json
from ensemble.core.predictions import Ints, Texts
from ensemble.data.decoded_images import DecodedImages
from ensemble.data.splits import stratified_folds

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Items:
    """The n items of one split.

    ids: str (n,), unique, `/`-separated, NFC.  paths: str (n,), relative to the root of the data set.
    targets: int64 (n,), an index into the classes of the data set, -1 where unknown.
    groups: str (n,) or None.  soft: float32 (n, k) or None, label probabilities (`data.soft_labels`).
    teacher_probs: float32 (n, k) or None, softened probabilities of the teacher, for distillation.
    """

    ids: Texts
    paths: Texts
    targets: Ints
    groups: Texts | None = None
    soft: npt.NDArray[np.float32] | None = None
    teacher_probs: npt.NDArray[np.float32] | None = None

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
            teacher_probs=None if self.teacher_probs is None else self.teacher_probs[rows],
        )


@dataclass(frozen=True)
class Dataset:
    """The data set that a recipe's `data` describes.

    classes: str (k,).  splits: `train`, `valid`, optionally `test`, and `test-<name>` for each further test set.
    fingerprint: hex SHA-256 of train and valid (ids, content, labels, split, groups; not paths, not test).
    test_fingerprints: name of each test split -> its fingerprint.
    open_image: path (an entry of Items.paths) -> upright 8-bit RGB image; raises DataError.
    content: path -> hex SHA-256 of the file.
    background: the colour behind transparent pixels, or None.
    decoded: images that were decoded while the files were checked.
    """

    classes: Texts
    splits: Mapping[str, Items]
    fingerprint: str
    test_fingerprints: Mapping[str, str]
    open_image: Callable[[str], Image.Image]
    content: Mapping[str, str] = field(default_factory=dict)
    background: tuple[int, int, int] | None = None
    decoded: DecodedImages = field(default_factory=DecodedImages, compare=False)

    @property
    def tests(self) -> dict[str, Items]:
        """The test splits: `test` and every `test-<name>`."""
        return {name: items for name, items in self.splits.items() if name.split("-")[0] == "test"}


def fingerprint(splits: Mapping[str, Items], classes: Texts, content: Mapping[str, str]) -> str:
    """Hex SHA-256 of train and valid: split, id, label, group and content of every row, and the class order.

    content: path -> SHA-256 of the file.
    """
    rows = [
        [split, *row]
        for split in ("train", "valid")
        if split in splits
        for row in _rows(splits[split], classes, content)
    ]
    return sha256_json({"classes": classes.tolist(), "rows": sorted(rows, key=_split_and_id)})


def fingerprint_of_test(items: Items, classes: Texts, content: Mapping[str, str]) -> str:
    """Hex SHA-256 of a test set: id, label and content of every row."""
    rows = [[row[0], row[1], row[3]] for row in _rows(items, classes, content)]
    return sha256_json(sorted(rows, key=lambda row: row[0]))


def _split_and_id(row: list[Any]) -> tuple[str, str]:
    return row[0], row[1]


def _rows(items: Items, classes: Texts, content: Mapping[str, str]) -> list[list[Any]]:
    """[id, label or label probabilities, group, content] of every item."""
    labels: list[Any]
    if items.soft is not None:
        labels = items.soft.tolist()
    else:
        names = [*classes.tolist(), None]
        labels = [names[target] for target in items.targets.tolist()]  # UNKNOWN is -1, the last index
    groups = items.groups.tolist() if items.groups is not None else [None] * len(items)
    digests = [content[path] for path in items.paths.tolist()]
    return [list(row) for row in zip(items.ids.tolist(), labels, groups, digests, strict=True)]


def fold_of(dataset: Dataset, n_folds: int, fold: int, split_seed: int) -> Dataset:
    """The data set with train and valid pooled and divided again: valid is fold `fold`, train is the rest.

    The folds are stratified, never divide a group, and depend on ids, groups and seed only. Raises DataError for an
    id that is in both splits, and if any of the folds would be empty or would leave its train without a class. All
    folds are checked, so that no fold is trained if another one is impossible.
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
        missing = np.setdiff1d(pool.targets, pool.targets[folds != fold])
        if len(missing):
            raise DataError(
                f"fold {fold} of {n_folds} holds out every image of {first_few(classes[missing])};"
                " add images of it (of another group where there are groups), or set fewer folds"
            )


def refit_of(dataset: Dataset) -> Dataset:
    """The data set with train and valid pooled as train, and no valid. Raises DataError as `pooled` does."""
    others = {split: items for split, items in dataset.splits.items() if split != "valid"}
    return replace(dataset, splits={**others, "train": pooled(dataset)})


def pooled(dataset: Dataset) -> Items:
    """The items of train and valid. Raises DataError for an id that is in both."""
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
        groups=_concatenated([items.groups for items in parts]),
        soft=_concatenated([items.soft for items in parts]),
    )


def _concatenated(arrays: list[Any]) -> Any:
    """The concatenated arrays; None if any of them is None."""
    return None if any(array is None for array in arrays) else np.concatenate(arrays)
