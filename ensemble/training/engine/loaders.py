"""From a data set to fastai DataLoaders, through a DataBlock, with batches that are looked up at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from fastai.data.block import CategoryBlock, DataBlock, RegressionBlock, TransformBlock
from fastai.data.core import DataLoaders, TfmdDL
from fastai.data.transforms import IntToFloatTensor, Normalize
from fastai.torch_core import TensorBase, TensorCategory
from fastai.vision.core import TensorImage
from fastcore.basics import chunked
from torch import Tensor

from ensemble.core.predictions import Ints
from ensemble.data.dataset import Dataset, Items
from ensemble.inference.image_batches import Images, ahead, to_device
from ensemble.recipe.schema import Recipe
from ensemble.training.methods.augment import ItemTransform, transforms
from ensemble.training.methods.samplers import Sampler, batch_size, sampler

MOST_AT_ONCE = 16
"""Batches that are augmented as one on a GPU."""
SHARE, COPIES = 0.1, 8
"""Of a GPU's memory, what these may take, and how many copies of them transforms make."""


@dataclass(frozen=True)
class RowItem:
    """One item as the DataBlock sees it; row: in the images.  target: a class name or float32 (k,)."""

    row: int
    target: Any
    valid: bool


@dataclass(frozen=True)
class _Open:
    """Row -> uint8 TensorImage (3, size, size)."""

    images: Images

    def __call__(self, row: RowItem) -> TensorImage:
        return TensorImage(self.images.batch(np.array([row.row]))[0].contiguous())


def _target(row: RowItem) -> Any:
    return row.target


def _valid_rows(rows: Sequence[RowItem]) -> tuple[list[int], list[int]]:
    """The splitter: training rows, validation rows."""
    valid = [i for i, row in enumerate(rows) if row.valid]
    return [i for i, row in enumerate(rows) if not row.valid], valid


@dataclass(frozen=True)
class RowBatches:
    """The items of one loader.

    rows: int64 (n,), in `images`.  targets: (n,), (n, k) or (n, 2k), where the images are.
    labels: int64 (n,), class indices.
    """

    images: Images
    rows: Ints
    targets: TensorBase
    labels: Ints

    def batch(self, items: Ints) -> tuple[Ints, Tensor, TensorBase]:
        """The items themselves, their images and their targets."""
        return items, self.images.batch(self.rows[items]), self.targets[to_device(items, self.targets.device)]


class BatchLoader(TfmdDL):  # type: ignore[misc]
    """fastai's loader of transformed items, whose batches are one look-up each rather than items put together.

    at: the numbers, below `items`, of the items in the batch at hand.  epoch: from 0, set by who trains.
    sampler: which items an epoch shows, where the loader shuffles; each once without one.
    together: batches that are looked up and transformed as one, then handed out one by one. Transforms draw for
    every image, so this changes which numbers are drawn, not how they are distributed.
    Without a `lookup`, as for a `test_dl` of other items, it is fastai's own.
    """

    def __init__(
        self,
        dataset: Any = None,
        *,
        lookup: RowBatches | None = None,
        sampler: Sampler | None = None,
        together: int = 1,
        **kwargs: Any,
    ) -> None:
        self.lookup, self.sampler, self.at, self.epoch = lookup, sampler, np.empty(0, np.int64), 0
        self.together = together
        self.items = len(lookup.rows) if lookup else 0
        super().__init__(dataset, **kwargs)
        if self.sampler and self.shuffle:
            self.n = self.sampler.count  # fastai's: items an epoch

    def get_idxs(self) -> list[int]:
        """The numbers of an epoch's items."""
        if self.sampler and self.shuffle:
            return self.sampler.draw(self.rng)
        found: list[int] = super().get_idxs()
        return found

    def new(self, dataset: Any = None, cls: Any = None, **kwargs: Any) -> Any:
        """As fastai's; a loader of the same items keeps the look-up."""
        if dataset is None or dataset is self.dataset:
            kwargs = {"lookup": self.lookup, "sampler": self.sampler, "together": self.together, **kwargs}
        return super().new(dataset, cls, **kwargs)

    def before_iter(self) -> None:
        """Transforms that ask what items a batch holds ask the loader that is at work: loaders share transforms."""
        super().before_iter()
        for transform in getattr(self.after_batch, "fs", ()):
            if isinstance(transform, ItemTransform):
                transform.loader = self if self.lookup else None

    def create_batches(self, samps: Iterable[int]) -> Iterator[Any]:
        """Batches before `after_batch`: uint8 images (n, 3, size, size) and their targets."""
        if self.lookup is None:
            yield from super().create_batches(samps)
            return
        lookup, chunks = self.lookup, self._chunks(list(samps))

        def made() -> Iterator[tuple[Ints, Tensor, TensorBase]]:
            return (lookup.batch(np.array(chunk, np.int64)) for chunk in chunks)

        for items, images, targets in ahead(made) if lookup.images.slow else made():
            self.at = items
            yield TensorImage(images), targets

    def __iter__(self) -> Iterator[Any]:
        """Batches after `after_batch`."""
        if self.lookup is None or self.together == 1:
            yield from super().__iter__()
            return
        for several in super().__iter__():
            at = self.at
            for start in range(0, len(at), self.bs):
                part = slice(start, start + self.bs)
                self.at = at[part]
                yield tuple(one[part] for one in several)

    def _chunks(self, items: list[int]) -> list[list[int]]:
        """The items of an epoch as they are looked up: a batch, or several, at a time."""
        if self.drop_last:
            items = items[: len(items) // self.bs * self.bs]
        chunks: list[list[int]] = list(chunked(items, self.bs * self.together))
        return chunks


def data_block(
    recipe: Recipe, dataset: Dataset, images: Images, mean: Sequence[float], std: Sequence[float]
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
        blocks=(TransformBlock(type_tfms=[_Open(images)]), labels),
        get_y=_target,
        splitter=_valid_rows,
        batch_tfms=[
            IntToFloatTensor(),
            *transforms(recipe.augment, recipe.image_size),
            Normalize.from_stats(list(mean), list(std), cuda=False),
        ],
    )


def data_loaders(
    recipe: Recipe,
    dataset: Dataset,
    images: Images,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    device: torch.device,
) -> DataLoaders:
    """Training and validation loaders of one member, with batches of `batch_size`; seed everything before calling.

    Raises DataError for fewer than two training images.
    """
    train = dataset.splits["train"]
    chosen = sampler(recipe, train.targets, len(dataset.classes))
    taken = batch_size(recipe, train.targets, len(dataset.classes))
    together = batches_at_once(recipe, device)
    parts = [split for split in ("train", "valid") if split in dataset.splits]
    rows = {split: images.rows(dataset.splits[split].paths.tolist()) for split in parts}
    items = [row for split in parts for row in _rows(dataset.splits[split], rows[split], dataset, split)]
    lookups = [_lookup(images, rows[split], dataset.splits[split]) for split in parts]
    if len(lookups) == 1:
        lookups.append(_lookup(images, np.empty(0, np.int64), train.take(np.empty(0, np.int64))))
    return data_block(recipe, dataset, images, mean, std).dataloaders(
        items,
        bs=taken,
        val_bs=taken * 2,
        num_workers=0,
        device=device,
        dl_type=BatchLoader,
        dl_kwargs=[{"lookup": lookups[0], "sampler": chosen, "together": together}, {"lookup": lookups[1]}],
    )


def batches_at_once(recipe: Recipe, device: torch.device) -> int:
    """How many training batches are augmented as one: several on a GPU, for which one is hardly any work.

    As many as a share of its memory leaves room for, with the copies that transforms make of them.
    """
    assert recipe.image_size is not None
    if device.type != "cuda":
        return 1
    batch = recipe.batch_size * 3 * recipe.image_size**2 * 4 * COPIES
    return max(1, min(MOST_AT_ONCE, int(SHARE * torch.cuda.get_device_properties(device).total_memory) // batch))


def _rows(items: Items, rows: Ints, dataset: Dataset, split: str) -> list[RowItem]:
    targets: Sequence[Any] = dataset.classes[items.targets].tolist() if items.soft is None else list(items.soft)
    return [RowItem(row, target, split == "valid") for row, target in zip(rows.tolist(), targets, strict=True)]


def _lookup(images: Images, rows: Ints, items: Items) -> RowBatches:
    return RowBatches(images, rows, _targets(items).to(images.device), items.targets)


def _targets(items: Items) -> TensorBase:
    """Class indices (n,), probabilities (n, k), or for a student (n, 2k): the label's, then the teacher's."""
    if items.taught is not None:
        label = np.eye(items.taught.shape[1], dtype=np.float32)[items.targets] if items.soft is None else items.soft
        return TensorBase(torch.from_numpy(np.concatenate([label, items.taught], axis=1)))
    hard = items.soft is None
    return TensorCategory(torch.from_numpy(items.targets)) if hard else TensorBase(torch.from_numpy(items.soft))
