"""Samplers, by name: they choose the training items of an epoch."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from fastai.callback.core import Callback
from torch import Tensor
from torch.nn import functional

from ensemble.core.errors import DataError
from ensemble.core.predictions import Floats, Ints
from ensemble.core.registry import Registry
from ensemble.recipe.schema import ResolvedRecipe
from ensemble.training.engine import callback_order

DEFAULT_SHARE = 0.5
"""Default of `prune`: the share of the well-learnt items that `pruned` leaves out."""


class Sampler(Protocol):
    """count: number of items of an epoch.  draw: their indices, in the order of the epoch.

    A sampler that draws at random may have `class_counts`, int64 (k,): the expected items of each class.
    Without it those of one draw are counted.
    """

    @property
    def count(self) -> int: ...
    def draw(self, rng: random.Random) -> list[int]: ...


samplers: Registry[Callable[[ResolvedRecipe, Ints, int], Sampler | None]] = Registry("sampler")


def sampler(recipe: ResolvedRecipe, targets: Ints, n_classes: int) -> Sampler | None:
    """The recipe's sampler for items with class indices `targets` (n,); None: each item once.

    Raises RecipeError for an unknown name, DataError for a class without items.
    """
    return samplers.get(recipe.sampler)(recipe, targets, n_classes)


def epoch_class_counts(recipe: ResolvedRecipe, targets: Ints, n_classes: int) -> Ints:
    """Number of items of each class in an epoch, int64 (k,); the expected number if they are drawn."""
    epoch_sampler = sampler(recipe, targets, n_classes)
    if epoch_sampler is None:
        return np.bincount(targets, minlength=n_classes)
    declared: Ints | None = getattr(epoch_sampler, "class_counts", None)
    if declared is not None:
        return declared
    return np.bincount(targets[epoch_sampler.draw(random.Random(0))], minlength=n_classes)


def batch_size(recipe: ResolvedRecipe, targets: Ints, n_classes: int) -> int:
    """Batch size: the recipe's, or the number of images of an epoch if that is smaller.

    fastai drops an incomplete last batch, so a larger batch would train on nothing. Thus batch norm never has a
    batch of one image either. Raises DataError if an epoch has fewer than two images.
    """
    epoch_sampler = sampler(recipe, targets, n_classes)
    images = epoch_sampler.count if epoch_sampler else len(targets)
    if images < 2:
        raise DataError(f"{images} training image found, two or more expected; add images, or set fewer folds")
    return min(recipe.batch_size, images)


def smaller_batch(recipe: ResolvedRecipe, targets: Ints, n_classes: int) -> str:
    """Message with the reason for a batch smaller than the recipe's; empty if it is not."""
    size = batch_size(recipe, targets, n_classes)
    if size == recipe.batch_size:
        return ""
    return f"a batch of {recipe.batch_size} is more than the {size} training images of an epoch; {size} are taken"


@dataclass(frozen=True)
class WeightedSampler:
    """Draws as many items as there are, with replacement, with equal probability for every class."""

    targets: Ints
    n_classes: int

    @property
    def count(self) -> int:
        """Number of items of an epoch."""
        return len(self.targets)

    @property
    def class_counts(self) -> Ints:
        """Expected items of each class in an epoch, int64 (k,): the same for all."""
        return np.full(self.n_classes, round(self.count / self.n_classes))

    def draw(self, rng: random.Random) -> list[int]:
        """Indices of the items of an epoch."""
        counts = np.bincount(self.targets, minlength=self.n_classes)
        return rng.choices(range(self.count), weights=(1 / counts[self.targets]).tolist(), k=self.count)


@dataclass(frozen=True)
class OverSampler:
    """Draws `class_counts` items of each class, each item of a class about equally often.

    class_counts: int64 (k,).  A class with more items than that has a new random subset in each epoch.
    """

    targets: Ints
    class_counts: Ints

    @property
    def count(self) -> int:
        """Number of items of an epoch."""
        return int(self.class_counts.sum())

    def draw(self, rng: random.Random) -> list[int]:
        """Indices of the items of an epoch, shuffled."""
        indices: list[int] = []
        for label, count in enumerate(self.class_counts.tolist()):
            items = np.flatnonzero(self.targets == label).tolist()
            indices += items * (count // len(items)) + rng.sample(items, count % len(items))
        rng.shuffle(indices)
        return indices


class Pruned:
    """Draws each item once, except for a share of the well-learnt ones, whose last loss was below the mean.

    losses: float32 (n,), last loss of each item, infinite before the first.  share: left out of the well-learnt.
    """

    def __init__(self, items: int, share: float) -> None:
        self.losses, self.share = np.full(items, np.inf, np.float32), share
        self.chosen = list(range(items))

    @property
    def count(self) -> int:
        """Number of items of the epoch chosen last."""
        return len(self.chosen)

    def choose(self, rng: random.Random, *, least: int) -> None:
        """Choose the items of the next epoch, at least `least`."""
        has_loss = np.isfinite(self.losses)
        easy = has_loss & (self.losses < self.losses[has_loss].mean()) if has_loss.any() else has_loss
        hard = np.flatnonzero(~easy).tolist()
        n_kept = max(round((1 - self.share) * int(easy.sum())), least - len(hard))
        self.chosen = hard + rng.sample(np.flatnonzero(easy).tolist(), n_kept)

    def record(self, items: Ints, losses: Floats) -> None:
        """Store the losses of items."""
        self.losses[items] = losses

    def draw(self, rng: random.Random) -> list[int]:
        """Indices of the chosen items, shuffled."""
        return rng.sample(self.chosen, len(self.chosen))


@samplers.register("none")
def none(recipe: ResolvedRecipe, targets: Ints, n_classes: int) -> Sampler | None:
    """Each item once per epoch."""
    return None


@samplers.register("weighted")
def weighted(recipe: ResolvedRecipe, targets: Ints, n_classes: int) -> Sampler | None:
    """Items drawn with replacement, with equal probability for every class."""
    _class_counts(targets, n_classes)
    return WeightedSampler(targets, n_classes)


@samplers.register("oversample", keys=("sampler_count", "sampler_cut"))
def oversample(recipe: ResolvedRecipe, targets: Ints, n_classes: int) -> Sampler | None:
    """At least `sampler_count` items of each class, by default the median class count; augmentation makes repeated
    items differ. Larger classes are unchanged, or reduced to that count with `sampler_cut`.
    """
    counts = _class_counts(targets, n_classes)
    minimum = recipe.sampler_count or int(np.median(counts))
    return OverSampler(
        targets, np.full_like(counts, minimum) if recipe.sampler_cut else np.maximum(counts, minimum)
    )


@samplers.register("pruned", keys=("prune",))
def pruned(recipe: ResolvedRecipe, targets: Ints, n_classes: int) -> Sampler | None:
    """Each epoch leaves out a random share, `prune`, of the well-learnt items; the first epoch and the last eighth
    have all (after InfoBatch, Qin et al. 2024, without its gradient weights for the remaining items).
    """
    return Pruned(len(targets), recipe.prune or DEFAULT_SHARE)


def _class_counts(targets: Ints, n_classes: int) -> Ints:
    counts = np.bincount(targets, minlength=n_classes)
    if not counts.all():
        empty = int((counts == 0).sum())
        raise DataError(f"{empty} classes have no training items, which no sampler can show more often")
    return counts


FINAL_SHARE = 1 / 8
"""Share of the epochs, at the end, that have all items, so that training ends on the original distribution."""


class Pruning(Callback):  # type: ignore[misc]
    """Calls the training loader's sampler to choose the items of each epoch, and passes it their losses."""

    order = callback_order.PRUNING

    def __init__(self, sampler: Pruned) -> None:
        super().__init__()
        self.sampler = sampler

    def before_epoch(self) -> None:
        """Choose the items here, as fastai reads the loader's length before it draws."""
        loader = self.dls.train
        final = self.epoch >= (1 - FINAL_SHARE) * self.n_epoch
        self.sampler.choose(loader.rng, least=loader.items if final else loader.bs)
        loader.n = self.sampler.count

    def after_pred(self) -> None:
        """Store the cross-entropy of each image of the batch, for mixed images with their mixed targets."""
        if not self.training:
            return
        with torch.no_grad():
            targets = self.yb[0].as_subclass(Tensor)
            losses = functional.cross_entropy(self.pred.as_subclass(Tensor).float(), targets, reduction="none")
        self.sampler.record(self.dls.train.batch_items, losses.cpu().numpy())


def pruning(sampler: object, state: Mapping[str, Tensor]) -> list[Callback]:
    """The callback for a pruning sampler, none for others.  state: from a checkpoint, empty without one."""
    if not isinstance(sampler, Pruned):
        return []
    if state:
        sampler.losses = state["losses"].numpy()
    return [Pruning(sampler)]


def state_of(sampler: object) -> dict[str, Tensor]:
    """State of a sampler for a checkpoint."""
    return {"losses": torch.from_numpy(sampler.losses)} if isinstance(sampler, Pruned) else {}
