"""Epochs without some of what is learnt well: who tells the sampler the losses, and when it chooses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from fastai.callback.core import Callback
from torch import Tensor
from torch.nn import functional

from ensemble.training.samplers import Pruned

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
