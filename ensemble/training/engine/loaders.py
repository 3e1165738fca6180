"""fastai DataLoaders of a data set, built with a DataBlock; each batch is one indexed look-up."""

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
from ensemble.inference.image_batches import Images, prefetched, to_device
from ensemble.recipe.schema import ResolvedRecipe
from ensemble.training.methods.augment import ItemTransform, transforms
from ensemble.training.methods.samplers import Sampler, batch_size, sampler

MAX_BATCHES_AT_ONCE = 16
"""Maximum number of batches that are augmented together on a GPU."""
MEMORY_SHARE, COPIES = 0.1, 8
"""Share of GPU memory that these batches may use; number of copies that the transforms make of them."""


@dataclass(frozen=True)
class RowItem:
    """One item of the DataBlock.  row: index into the images.  target: a class name or float32 (k,)."""

    row: int
    target: Any
    valid: bool


@dataclass(frozen=True)
class _Open:
    """Transform of a row to a uint8 TensorImage (3, size, size)."""

    images: Images

    def __call__(self, row: RowItem) -> TensorImage:
        return TensorImage(self.images.batch(np.array([row.row]))[0].contiguous())


def _target(row: RowItem) -> Any:
    return row.target


def _valid_rows(rows: Sequence[RowItem]) -> tuple[list[int], list[int]]:
    """Splitter: indices of training rows and of validation rows."""
    valid = [i for i, row in enumerate(rows) if row.valid]
    return [i for i, row in enumerate(rows) if not row.valid], valid


@dataclass(frozen=True)
class RowBatches:
    """The items of one loader.

    rows: int64 (n,), indices into `images`.  targets: (n,), (n, k) or (n, 2k), on the device of the images.
    labels: int64 (n,), class indices.
    """

    images: Images
    rows: Ints
    targets: TensorBase
    labels: Ints

    def batch(self, items: Ints) -> tuple[Ints, Tensor, TensorBase]:
        """`items`, their images and their targets."""
        return items, self.images.batch(self.rows[items]), self.targets[to_device(items, self.targets.device)]


class BatchLoader(TfmdDL):  # type: ignore[misc]
    """fastai's TfmdDL, with each batch read by one look-up instead of collating items.

    batch_items: indices, below `items`, of the items in the current batch.  items: the number of items.
    epoch: from 0, set by the training loop.  sampler: chooses the items of an epoch if the loader shuffles.
    together: number of batches that are looked up and transformed together, then yielded one by one. Transforms
    draw random numbers for each image, so this changes the numbers drawn, not their distribution.
    Without `lookup`, as for a `test_dl` of other items, it behaves as TfmdDL.
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
        self.lookup, self.sampler, self.batch_items, self.epoch = lookup, sampler, np.empty(0, np.int64), 0
        self.together = together
        self.items = len(lookup.rows) if lookup else 0
        super().__init__(dataset, **kwargs)
        if self.sampler and self.shuffle:
            self.n = self.sampler.count  # fastai's attribute: items per epoch

    def get_idxs(self) -> list[int]:
        """Indices of the items of an epoch, in order."""
        if self.sampler and self.shuffle:
            return self.sampler.draw(self.rng)
        indices: list[int] = super().get_idxs()
        return indices

    def new(self, dataset: Any = None, cls: Any = None, **kwargs: Any) -> Any:
        """As TfmdDL.new; a loader of the same items keeps look-up and sampler."""
        if dataset is None or dataset is self.dataset:
            kwargs = {"lookup": self.lookup, "sampler": self.sampler, "together": self.together, **kwargs}
        return super().new(dataset, cls, **kwargs)

    def before_iter(self) -> None:
        """Set the active loader in item transforms, as loaders share their transforms."""
        super().before_iter()
        for transform in getattr(self.after_batch, "fs", ()):
            if isinstance(transform, ItemTransform):
                transform.loader = self if self.lookup else None

    def create_batches(self, samps: Iterable[int]) -> Iterator[Any]:
        """Yield batches before `after_batch`: uint8 images (n, 3, size, size) and their targets."""
        if self.lookup is None:
            yield from super().create_batches(samps)
            return
        lookup, chunks = self.lookup, self._chunks(list(samps))

        def load_batches() -> Iterator[tuple[Ints, Tensor, TensorBase]]:
            return (lookup.batch(np.array(chunk, np.int64)) for chunk in chunks)

        for items, images, targets in prefetched(load_batches) if lookup.images.slow else load_batches():
            self.batch_items = items
            yield TensorImage(images), targets

    def __iter__(self) -> Iterator[Any]:
        """Yield batches after `after_batch`."""
        if self.lookup is None or self.together == 1:
            yield from super().__iter__()
            return
        for batches in super().__iter__():
            items = self.batch_items
            for start in range(0, len(items), self.bs):
                part = slice(start, start + self.bs)
                self.batch_items = items[part]
                yield tuple(tensor[part] for tensor in batches)

    def _chunks(self, items: list[int]) -> list[list[int]]:
        """Split the items of an epoch into look-ups of `together` batches each."""
        if self.drop_last:
            items = items[: len(items) // self.bs * self.bs]
        chunks: list[list[int]] = list(chunked(items, self.bs * self.together))
        return chunks


def data_block(
    recipe: ResolvedRecipe, dataset: Dataset, images: Images, mean: Sequence[float], std: Sequence[float]
) -> DataBlock:
    """The DataBlock of a member: images, vocabulary, augmentation and normalisation.

    The vocabulary is passed explicitly (as strings, classes would sort 1, 10, 2), and so are mean and std
    (`vision_learner` would add those of one member to those of the next).
    """
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
    recipe: ResolvedRecipe,
    dataset: Dataset,
    images: Images,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    device: torch.device,
) -> DataLoaders:
    """Training and validation loaders of one member; the caller seeds everything before.

    Raises DataError for fewer than two training images.
    """
    train = dataset.splits["train"]
    train_sampler = sampler(recipe, train.targets, len(dataset.classes))
    size = batch_size(recipe, train.targets, len(dataset.classes))
    together = batches_at_once(recipe, device)
    splits = [split for split in ("train", "valid") if split in dataset.splits]
    rows = {split: images.rows(dataset.splits[split].paths.tolist()) for split in splits}
    items = [row for split in splits for row in _rows(dataset.splits[split], rows[split], dataset, split)]
    lookups = [_lookup(images, rows[split], dataset.splits[split]) for split in splits]
    if len(lookups) == 1:
        lookups.append(_lookup(images, np.empty(0, np.int64), train.take(np.empty(0, np.int64))))
    return data_block(recipe, dataset, images, mean, std).dataloaders(
        items,
        bs=size,
        val_bs=size * 2,
        num_workers=0,
        device=device,
        dl_type=BatchLoader,
        dl_kwargs=[{"lookup": lookups[0], "sampler": train_sampler, "together": together}, {"lookup": lookups[1]}],
    )


def batches_at_once(recipe: ResolvedRecipe, device: torch.device) -> int:
    """Number of training batches that are augmented together: more than one on a GPU, which a single one underuses.

    As many as fit into a share of its memory, including the copies that transforms make.
    """
    if device.type != "cuda":
        return 1
    batch_bytes = recipe.batch_size * 3 * recipe.image_size**2 * 4 * COPIES
    return max(
        1,
        min(
            MAX_BATCHES_AT_ONCE,
            int(MEMORY_SHARE * torch.cuda.get_device_properties(device).total_memory) // batch_bytes,
        ),
    )


def _rows(items: Items, rows: Ints, dataset: Dataset, split: str) -> list[RowItem]:
    targets: Sequence[Any] = dataset.classes[items.targets].tolist() if items.soft is None else list(items.soft)
    return [RowItem(row, target, split == "valid") for row, target in zip(rows.tolist(), targets, strict=True)]


def _lookup(images: Images, rows: Ints, items: Items) -> RowBatches:
    return RowBatches(images, rows, _targets(items).to(images.device), items.targets)


def _targets(items: Items) -> TensorBase:
    """Class indices (n,), probabilities (n, k), or for a student (n, 2k): label and teacher probabilities."""
    if items.teacher_probs is not None:
        label = (
            np.eye(items.teacher_probs.shape[1], dtype=np.float32)[items.targets]
            if items.soft is None
            else items.soft
        )
        return TensorBase(torch.from_numpy(np.concatenate([label, items.teacher_probs], axis=1)))
    hard = items.soft is None
    return TensorCategory(torch.from_numpy(items.targets)) if hard else TensorBase(torch.from_numpy(items.soft))
