"""Averages of the weights over the steps of training, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from fastai.callback.core import Callback

from ensemble.registry import Registry
from ensemble.training.checkpoint import Tensors, copied_state

averages: Registry[Callable[[], list[Callback]]] = Registry("average of the weights")


class Lookahead(Callback):  # type: ignore[misc]
    """Every five steps the weights move to between where they were then and where they are (Zhang et al. 2019).

    They go all the way at first and 23 % of it at the end: the share kept is 0.95^5 times the cube of the progress
    (Jordan 2024). Batch-norm statistics go along. It also happens at the end of each epoch, so that then nothing
    is left to be saved.
    """

    every, most = 5, 0.95**5

    def before_fit(self) -> None:
        self.steps, self.slow = 0, Tensors()

    def before_train(self) -> None:
        self.steps, self.slow = 0, copied_state(self.model)

    def after_batch(self) -> None:
        if self.training:
            self.steps += 1
            if self.steps % self.every == 0:
                self._move()

    def after_train(self) -> None:
        if self.steps % self.every:
            self._move()

    @torch.no_grad()
    def _move(self) -> None:
        kept = self.most * float(self.pct_train) ** 3
        for name, fast in self.model.state_dict().items():
            if fast.is_floating_point():
                slow = self.slow[name]
                slow.lerp_(fast, 1 - kept)
                fast.copy_(slow)


@averages.register("none")
def none() -> list[Callback]:
    """The weights as the last step left them."""
    return []


@averages.register("lookahead")
def lookahead() -> list[Callback]:
    """Lookahead, with a share that grows towards the end."""
    return [Lookahead()]
