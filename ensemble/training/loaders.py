"""From a data set to fastai DataLoaders, through a DataBlock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from fastai.data.block import CategoryBlock, DataBlock, RegressionBlock, TransformBlock
from fastai.data.core import DataLoaders
from fastai.data.transforms import IntToFloatTensor, Normalize
from fastai.vision.core import TensorImage

from ensemble.data.dataset import Dataset, Items
from ensemble.data.pixels import Pixels
from ensemble.errors import DataError
from ensemble.recipe.schema import Recipe
from ensemble.training.augment import policies

Read = Callable[[str], Pixels]


@dataclass(frozen=True)
class Row:
    """One item as the DataBlock sees it; target is a class name or float32 (k,)."""

    path: str
    target: Any
    valid: bool


@dataclass(frozen=True)
class _Open:
    """Row -> uint8 TensorImage (3, size, size). A value rather than a lambda: loaders may spawn."""

    read: Read

    def __call__(self, row: Row) -> TensorImage:
        return TensorImage(torch.from_numpy(np.array(self.read(row.path))).permute(2, 0, 1).contiguous())


def _target(row: Row) -> Any:
    return row.target


def _valid_rows(rows: Sequence[Row]) -> tuple[list[int], list[int]]:
    """The splitter: training rows, validation rows."""
    valid = [i for i, row in enumerate(rows) if row.valid]
    return [i for i, row in enumerate(rows) if not row.valid], valid


def data_block(
    recipe: Recipe, dataset: Dataset, read: Read, mean: Sequence[float], std: Sequence[float]
) -> DataBlock:
    """The DataBlock of a member: its images, its vocabulary, its augmentation, its own statistics.

    The vocabulary is passed on (strings would sort 1, 10, 2), and so are mean and std (`vision_learner`
    would add one member's to the next).
    """
    assert recipe.image_size is not None and recipe.augment is not None
    soft = dataset.splits["train"].soft is not None
    labels = (
        RegressionBlock(n_out=len(dataset.classes)) if soft else CategoryBlock(list(dataset.classes), sort=False)
    )
    return DataBlock(
        blocks=(TransformBlock(type_tfms=[_Open(read)]), labels),
        get_y=_target,
        splitter=_valid_rows,
        batch_tfms=[
            IntToFloatTensor(),
            *policies.get(recipe.augment)(recipe.image_size),
            Normalize.from_stats(list(mean), list(std), cuda=False),
        ],
    )


def data_loaders(
    recipe: Recipe,
    dataset: Dataset,
    read: Read,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    device: torch.device,
    workers: int,
) -> DataLoaders:
    """Training and validation loaders of one member; seed everything before calling.

    Raises DataError when a batch is larger than the training set: fastai would then train on nothing.
    """
    train = dataset.splits["train"]
    if recipe.batch_size > len(train):
        raise DataError(
            f"a batch of {recipe.batch_size} is larger than the {len(train)} training images;"
            f" type --batch-size {max(2, len(train) // 4)}"
        )
    block = data_block(recipe, dataset, read, mean, std)
    rows = _rows(train, dataset, valid=False) + _rows(dataset.splits.get("valid"), dataset, valid=True)
    return block.dataloaders(
        rows, bs=recipe.batch_size, val_bs=recipe.batch_size * 2, num_workers=workers, device=device
    )


def _rows(items: Items | None, dataset: Dataset, *, valid: bool) -> list[Row]:
    if items is None:
        return []
    targets: Sequence[Any] = dataset.classes[items.targets].tolist() if items.soft is None else list(items.soft)
    return [Row(path, target, valid) for path, target in zip(items.paths.tolist(), targets, strict=True)]
