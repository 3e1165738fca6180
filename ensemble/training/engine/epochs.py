"""Epochs: their record, the callbacks around each, and early stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from fastai.callback.core import Callback, CancelFitException, CancelValidException
from fastai.learner import Learner
from torch import Tensor

from ensemble.core.errors import TrainingFailed
from ensemble.recipe.schema import Recipe
from ensemble.runs.history import Epoch
from ensemble.training.engine.checkpoint import Checkpoint, restore_random_states
from ensemble.training.methods.losses import hard_targets

CHECKED = 50
"""Batches after which a GPU is asked whether the loss is finite."""


class _Mean:
    """Loss and accuracy over the images of one pass, whose sums stay on a GPU until they are asked for."""

    def __init__(self) -> None:
        self.loss: float | Tensor = 0.0
        self.correct: float | Tensor = 0.0
        self.count = self.batches = 0

    def add(self, loss: float | Tensor, correct: float | Tensor, count: int) -> None:
        self.loss, self.correct = self.loss + loss * count, self.correct + correct
        self.count, self.batches = self.count + count, self.batches + 1

    def values(self) -> tuple[float | None, float | None]:
        return (float(self.loss) / self.count, float(self.correct) / self.count) if self.count else (None, None)


class History(Callback):  # type: ignore[misc]
    """Collects an Epoch at each epoch's end and hands it to `on_epoch`; stops at a loss that is not finite.

    At once on a processor, within `CHECKED` batches on an NVIDIA GPU.
    """

    order = 80

    def __init__(self, stage: int, on_epoch: Callable[[Epoch], None], on_batch: Callable[[], None]) -> None:
        super().__init__()
        self.stage, self.on_epoch, self.on_batch = stage, on_epoch, on_batch
        self.train_mean, self.valid_mean = _Mean(), _Mean()

    def before_epoch(self) -> None:
        """Start the sums and the clock."""
        self.train_mean, self.valid_mean = _Mean(), _Mean()
        self.started = time.perf_counter()

    def after_pred(self) -> None:
        """Keep the logits: fastai drops them before `after_batch` of a cancelled batch."""
        self.logits = self.learn.pred.detach()

    def after_batch(self) -> None:
        """Add one batch. Raises TrainingFailed on a loss that is not finite."""
        loss = _number(self.learn.loss.detach())
        target = self.learn.yb[0]
        correct = _number((self.logits.argmax(1) == hard_targets(target, self.logits.shape[1])).sum())
        mean = self.train_mean if self.training else self.valid_mean
        mean.add(loss, correct, len(target))
        if self.training and (isinstance(mean.loss, float) or mean.batches % CHECKED == 0):
            self._check()
        self.on_batch()

    def after_train(self) -> None:
        """Raises TrainingFailed when a loss of the last batches was not finite."""
        self._check()

    def _check(self) -> None:
        loss = float(self.train_mean.loss)  # a sum, which stays what one of its parts is
        if not math.isfinite(loss):
            raise TrainingFailed(
                f"the training loss became {loss} in stage {self.stage}, epoch {self.epoch}; lower --lr",
                self.stage,
                self.epoch,
            )

    def after_epoch(self) -> None:
        """Make the row, unless fastai skipped the epoch on the way to where a resumed run goes on."""
        if not self.train_mean.count:
            return
        (train_loss, train_accuracy), (valid_loss, valid_accuracy) = (
            self.train_mean.values(),
            self.valid_mean.values(),
        )
        assert train_loss is not None and train_accuracy is not None
        seconds = round(time.perf_counter() - self.started, 3)
        lr = float(self.opt.hypers[-1]["lr"])
        self.on_epoch(
            Epoch(self.stage, self.epoch, train_loss, valid_loss, train_accuracy, valid_accuracy, lr, seconds)
        )


def _number(value: Tensor) -> float | Tensor:
    """A float; on an NVIDIA GPU float64 (), as reading it would have the GPU wait for the processor."""
    plain = value.as_subclass(Tensor)
    return plain.double() if plain.is_cuda else float(plain)


def finite(network: torch.nn.Module) -> bool:
    """Whether every weight is a finite number."""
    return all(
        bool(torch.isfinite(value).all()) for value in network.state_dict().values() if value.is_floating_point()
    )


def best_epoch(rows: Sequence[Epoch]) -> int:
    """The position of the row with the lowest validation loss, the earliest of equals; rows of one stage."""
    return min(range(len(rows)), key=lambda i: (_loss(rows[i]), i))


def should_stop(rows: Sequence[Epoch], patience: int | None) -> bool:
    """Whether `patience` epochs have gone by since the lowest validation loss."""
    return patience is not None and bool(rows) and len(rows) - 1 - best_epoch(rows) >= patience


def plateaus(rows: Sequence[Epoch], patience: int) -> int:
    """How often more than `patience` epochs in a row brought no lower validation loss than any before."""
    lowest, waited, found = float("inf"), 0, 0
    for row in rows:
        if _loss(row) < lowest:
            lowest, waited = _loss(row), 0
        else:
            waited += 1
        if waited > patience:
            waited, found = 0, found + 1
    return found


def _loss(row: Epoch) -> float:
    return float("inf") if row.valid_loss is None else row.valid_loss


class Owner(Protocol):
    """Who trains: its recipe, the epochs of all stages so far, those of one, and what writes a checkpoint."""

    recipe: Recipe
    rows: list[Epoch]

    def stage_rows(self, index: int) -> Sequence[Epoch]: ...
    def keep(self, stage: int, epoch: int, learner: Learner, last: bool) -> None: ...


class Keeper(Callback):  # type: ignore[misc]
    """Keeps checkpoints, puts the random states of a resumed run back, stops early when asked.

    The order is after SkipToEpoch (70), which cancels the epochs that are done, and after History (80).
    """

    order = 90

    def __init__(self, training: Owner, stage: int, resumed: Checkpoint | None) -> None:
        super().__init__()
        self.owner, self.stage, self.resumed = training, stage, resumed

    def before_epoch(self) -> None:
        self.dls.train.epoch = len(self.owner.rows)  # over all stages
        if self.resumed:
            restore_random_states(self.resumed.states, self.dls.train.rng)
            self.resumed = None

    def after_epoch(self) -> None:
        rows = self.owner.stage_rows(self.stage)
        if not rows or rows[-1].epoch != self.epoch or self.resumed:
            return  # an epoch that was skipped on the way to where a resumed run goes on
        stop = should_stop(rows, self.owner.recipe.early_stopping)
        self.owner.keep(self.stage, self.epoch, self.learn, last=stop or self.epoch + 1 == self.n_epoch)
        if stop:
            raise CancelFitException


class Validation(Callback):  # type: ignore[misc]
    """Validates after every so many epochs and after the last; never for None, as a refit has no such rows."""

    order = -20

    def __init__(self, every: int | None) -> None:
        super().__init__()
        self.every = every

    def before_validate(self) -> None:
        if self.every is None or not is_due(self.epoch, self.n_epoch, self.every):
            raise CancelValidException


def is_due(epoch: int, epochs: int, every: int) -> bool:
    """Whether the validation rows are predicted after this epoch, from 0: every so many, and after the last."""
    return (epoch + 1) % every == 0 or epoch + 1 == epochs
