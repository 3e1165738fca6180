"""Train and valid pooled: one fold of them held out, or none for a refit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ensemble.data.dataset import Dataset, Items
from ensemble.data.splits import stratified_folds
from ensemble.errors import DataError, RecipeError, first_few
from ensemble.predictions import Ints, Texts


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
