"""Samplers: which training items an epoch shows."""

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
from ensemble.recipe.schema import Recipe

SHARE = 0.5
"""Of what is learnt well, what `pruned` leaves out unless `prune` says another share."""


class Sampler(Protocol):
    """count: how many items an epoch shows.  draw: their numbers, in the order in which they are shown."""

    @property
    def count(self) -> int: ...
    def draw(self, rng: random.Random) -> list[int]: ...


samplers: Registry[Callable[[Recipe, Ints, int], Sampler | None]] = Registry("sampler")


def sampler(recipe: Recipe, targets: Ints, n_classes: int) -> Sampler | None:
    """The recipe's sampler for items with class indices `targets` (n,); None for each item once.

    Raises RecipeError for a name that does not exist, DataError for a class without items.
    """
    return samplers.get(recipe.sampler)(recipe, targets, n_classes)


def shown(recipe: Recipe, targets: Ints, n_classes: int) -> Ints:
    """How many items of each class an epoch shows, int64 (k,), expected where it is drawn."""
    counts = np.bincount(targets, minlength=n_classes)
    chosen = sampler(recipe, targets, n_classes)
    if chosen is None or isinstance(chosen, Pruned):
        return counts
    if isinstance(chosen, OverSampler):
        return chosen.wanted
    return np.full(n_classes, round(chosen.count / n_classes))


def batch_size(recipe: Recipe, targets: Ints, n_classes: int) -> int:
    """Images a batch: as many as the recipe asks for, or as an epoch shows where these are fewer.

    fastai leaves out a last batch that is not full, so a larger one would train on nothing. It also means that no
    batch norm ever sees a batch of one. Raises DataError where an epoch shows one image only.
    """
    chosen = sampler(recipe, targets, n_classes)
    images = chosen.count if chosen else len(targets)
    if images < 2:
        raise DataError(f"{images} training image found, two or more expected; add images, or set fewer folds")
    return min(recipe.batch_size, images)


def smaller_batch(recipe: Recipe, targets: Ints, n_classes: int) -> str:
    """The line that says why a batch is smaller than the recipe asks for, or nothing."""
    taken = batch_size(recipe, targets, n_classes)
    if taken == recipe.batch_size:
        return ""
    return f"a batch of {recipe.batch_size} is more than the {taken} training images of an epoch; {taken} are taken"


@dataclass(frozen=True)
class WeightedSampler:
    """As many items as there are, drawn with replacement so that every class is as likely as any other."""

    targets: Ints
    n_classes: int

    @property
    def count(self) -> int:
        """Items an epoch."""
        return len(self.targets)

    def draw(self, rng: random.Random) -> list[int]:
        """The numbers of an epoch's items."""
        counts = np.bincount(self.targets, minlength=self.n_classes)
        return rng.choices(range(self.count), weights=(1 / counts[self.targets]).tolist(), k=self.count)


@dataclass(frozen=True)
class OverSampler:
    """Every class at least as often as `wanted` says, each item about as often as the next of its class.

    wanted: int64 (k,).  A class that has more items than wanted shows others of them in each epoch.
    """

    targets: Ints
    wanted: Ints

    @property
    def count(self) -> int:
        """Items an epoch."""
        return int(self.wanted.sum())

    def draw(self, rng: random.Random) -> list[int]:
        """The numbers of an epoch's items."""
        chosen: list[int] = []
        for label, wanted in enumerate(self.wanted.tolist()):
            items = np.flatnonzero(self.targets == label).tolist()
            chosen += items * (wanted // len(items)) + rng.sample(items, wanted % len(items))
        rng.shuffle(chosen)
        return chosen


class Pruned:
    """Each item once, but for some of the well learnt ones: those whose loss, when last seen, was below the mean.

    losses: float32 (n,), infinite for what was not seen yet.  share: of the well learnt, what an epoch leaves out.
    """

    def __init__(self, items: int, share: float) -> None:
        self.losses, self.share = np.full(items, np.inf, np.float32), share
        self.chosen = list(range(items))

    @property
    def count(self) -> int:
        """Items of the epoch that was chosen last."""
        return len(self.chosen)

    def choose(self, rng: random.Random, *, least: int) -> None:
        """Choose the items of the next epoch, at least so many."""
        seen = np.isfinite(self.losses)
        easy = seen & (self.losses < self.losses[seen].mean()) if seen.any() else seen
        hard = np.flatnonzero(~easy).tolist()
        few = max(round((1 - self.share) * int(easy.sum())), least - len(hard))
        self.chosen = hard + rng.sample(np.flatnonzero(easy).tolist(), few)

    def see(self, items: Ints, losses: Floats) -> None:
        """Remember the losses of items."""
        self.losses[items] = losses

    def draw(self, rng: random.Random) -> list[int]:
        """The numbers of the chosen items, shuffled."""
        return rng.sample(self.chosen, len(self.chosen))


@samplers.register("none")
def none(recipe: Recipe, targets: Ints, n_classes: int) -> Sampler | None:
    """Every item once an epoch."""
    return None


@samplers.register("weighted")
def weighted(recipe: Recipe, targets: Ints, n_classes: int) -> Sampler | None:
    """Drawn with replacement, every class as likely as any other."""
    _none_empty(targets, n_classes)
    return WeightedSampler(targets, n_classes)


@samplers.register("oversample")
def oversample(recipe: Recipe, targets: Ints, n_classes: int) -> Sampler | None:
    """Every class at least `sampler_count` times, the median class's count unless given; what augments makes the
    copies differ. Larger classes are left as they are, or cut to it with `sampler_cut`.
    """
    counts = _none_empty(targets, n_classes)
    middle = recipe.sampler_count or int(np.median(counts))
    return OverSampler(targets, np.full_like(counts, middle) if recipe.sampler_cut else np.maximum(counts, middle))


@samplers.register("pruned")
def pruned(recipe: Recipe, targets: Ints, n_classes: int) -> Sampler | None:
    """Without a share, `prune`, of the well learnt items in each epoch, chosen anew each time; the first epoch and
    the last eighth show all (after InfoBatch, Qin et al. 2024, whose weights for those that stay are left out).
    """
    return Pruned(len(targets), recipe.prune or SHARE)


def _none_empty(targets: Ints, n_classes: int) -> Ints:
    counts = np.bincount(targets, minlength=n_classes)
    if not counts.all():
        empty = int((counts == 0).sum())
        raise DataError(f"{empty} classes have no training items, which no sampler can show more often")
    return counts


LAST = 1 / 8
"""Of the epochs, those at the end that show everything, so that the network ends on the data as they are."""


class Pruning(Callback):  # type: ignore[misc]
    """Has the sampler of the training loader choose each epoch's items, and tells it their losses.

    The order is after what restores the random state of a resumed run (90): the choice depends on it.
    """

    order = 95

    def __init__(self, sampler: Pruned) -> None:
        super().__init__()
        self.sampler = sampler

    def before_epoch(self) -> None:
        """Choose. fastai asks the loader for its length before it draws."""
        loader = self.dls.train
        last = self.epoch >= (1 - LAST) * self.n_epoch
        self.sampler.choose(loader.rng, least=loader.items if last else loader.bs)
        loader.n = self.sampler.count

    def after_pred(self) -> None:
        """Remember the cross-entropy of each image of the batch; mixed ones count by what they are mixed of."""
        if not self.training:
            return
        with torch.no_grad():
            targets = self.yb[0].as_subclass(Tensor)
            losses = functional.cross_entropy(self.pred.as_subclass(Tensor).float(), targets, reduction="none")
        self.sampler.see(self.dls.train.at, losses.cpu().numpy())


def pruning(sampler: object, resumed: Mapping[str, Tensor]) -> list[Callback]:
    """The callback for a sampler that prunes, none for others. resumed: the state that a checkpoint has."""
    if not isinstance(sampler, Pruned):
        return []
    if resumed:
        sampler.losses = resumed["losses"].numpy()
    return [Pruning(sampler)]


def state_of(sampler: object) -> dict[str, Tensor]:
    """What a checkpoint needs of a sampler."""
    return {"losses": torch.from_numpy(sampler.losses)} if isinstance(sampler, Pruned) else {}
