"""History of the epochs, the callbacks of each epoch, and early stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch
from fastai.callback.core import Callback, CancelFitException, CancelValidException
from fastai.learner import Learner
from torch import Tensor

from ensemble.core.errors import TrainingFailed
from ensemble.runs.history import Epoch
from ensemble.training.engine import callback_order
from ensemble.training.engine.checkpoint import Checkpoint, restore_random_states
from ensemble.training.methods.losses import hard_targets

CHECK_INTERVAL = 50
"""Batches between checks on a GPU that the loss is finite."""


class _Mean:
    """Mean loss and accuracy over the images of one pass; the sums stay on the GPU until `values` is called."""

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
    """Passes an Epoch to `on_epoch` after each epoch; raises TrainingFailed if the loss is not finite.

    The loss is checked after each batch on a CPU, every `CHECK_INTERVAL` batches on an NVIDIA GPU.
    """

    order = callback_order.HISTORY

    def __init__(self, stage: int, on_epoch: Callable[[Epoch], None], on_batch: Callable[[], None]) -> None:
        super().__init__()
        self.stage, self.on_epoch, self.on_batch = stage, on_epoch, on_batch
        self.train_mean, self.valid_mean = _Mean(), _Mean()

    def before_epoch(self) -> None:
        """Reset the sums and the start time."""
        self.train_mean, self.valid_mean = _Mean(), _Mean()
        self.started = time.perf_counter()

    def after_pred(self) -> None:
        """Store the logits: fastai deletes them before `after_batch` if the batch is cancelled."""
        self.logits = self.learn.pred.detach()

    def after_batch(self) -> None:
        """Add one batch to the means. Raises TrainingFailed if the loss is not finite."""
        loss = as_number(self.learn.loss.detach())
        target = self.learn.yb[0]
        correct = as_number((self.logits.argmax(1) == hard_targets(target, self.logits.shape[1])).sum())
        mean = self.train_mean if self.training else self.valid_mean
        mean.add(loss, correct, len(target))
        if self.training and (isinstance(mean.loss, float) or mean.batches % CHECK_INTERVAL == 0):
            self._check()
        self.on_batch()

    def after_train(self) -> None:
        """Check the last batches. Raises TrainingFailed if a loss was not finite."""
        self._check()

    def _check(self) -> None:
        loss = float(self.train_mean.loss)  # a sum with a non-finite term is not finite
        if not math.isfinite(loss):
            raise TrainingFailed(
                f"the training loss became {loss} in stage {self.stage}, epoch {self.epoch}; lower --lr",
                self.stage,
                self.epoch,
            )

    def after_epoch(self) -> None:
        """Build the history row, unless fastai skipped the epoch because a resumed run had completed it."""
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


def as_number(value: Tensor) -> float | Tensor:
    """A float; on an NVIDIA GPU a float64 tensor (), as `float` would synchronise GPU and CPU."""
    plain = value.as_subclass(Tensor)
    return plain.double() if plain.is_cuda else float(plain)


def finite(network: torch.nn.Module) -> bool:
    """Whether every weight and buffer is finite."""
    return all(
        bool(torch.isfinite(value).all()) for value in network.state_dict().values() if value.is_floating_point()
    )


def best_epoch(rows: Sequence[Epoch]) -> int:
    """Index of the row with the lowest validation loss, the first of equal ones; rows: of one stage."""
    return min(range(len(rows)), key=lambda i: (_loss(rows[i]), i))


def should_stop(rows: Sequence[Epoch], patience: int | None) -> bool:
    """Whether the lowest validation loss is `patience` epochs old; False for None."""
    return patience is not None and bool(rows) and len(rows) - 1 - best_epoch(rows) >= patience


def plateaus(rows: Sequence[Epoch], patience: int) -> int:
    """Number of times that more than `patience` epochs in a row had no new lowest validation loss."""
    lowest, bad_epochs, count = float("inf"), 0, 0
    for row in rows:
        if _loss(row) < lowest:
            lowest, bad_epochs = _loss(row), 0
        else:
            bad_epochs += 1
        if bad_epochs > patience:
            bad_epochs, count = 0, count + 1
    return count


def _loss(row: Epoch) -> float:
    return float("inf") if row.valid_loss is None else row.valid_loss


class CheckpointWriter(Callback):  # type: ignore[misc]
    """Writes checkpoints, restores the random states of a resumed run, and implements early stopping.

    rows: returns the history of all stages.  save: called with (epoch, learner, whether it is the last one).
    patience: of early stopping, None without it.
    """

    order = callback_order.CHECKPOINT

    def __init__(
        self,
        stage: int,
        rows: Callable[[], Sequence[Epoch]],
        save: Callable[[int, Learner, bool], None],
        patience: int | None,
        checkpoint: Checkpoint | None,
    ) -> None:
        super().__init__()
        self.stage, self.rows, self.save, self.patience, self.checkpoint = stage, rows, save, patience, checkpoint

    def before_epoch(self) -> None:
        self.dls.train.epoch = len(self.rows())  # counted over all stages
        if self.checkpoint:
            restore_random_states(self.checkpoint.states, self.dls.train.rng)
            self.checkpoint = None

    def after_epoch(self) -> None:
        rows = [row for row in self.rows() if row.stage == self.stage]
        if not rows or rows[-1].epoch != self.epoch or self.checkpoint:
            return  # SkipToEpoch skipped this epoch, as a resumed run had completed it
        stop = should_stop(rows, self.patience)
        self.save(self.epoch, self.learn, stop or self.epoch + 1 == self.n_epoch)
        if stop:
            raise CancelFitException


class Validation(Callback):  # type: ignore[misc]
    """Validates after every `every` epochs and after the last; never for None: a refit has no validation rows."""

    order = callback_order.VALIDATION

    def __init__(self, every: int | None) -> None:
        super().__init__()
        self.every = every

    def before_validate(self) -> None:
        if self.every is None or not is_due(self.epoch, self.n_epoch, self.every):
            raise CancelValidException


def is_due(epoch: int, epochs: int, every: int) -> bool:
    """Whether to validate after `epoch`, from 0: after every `every` epochs and after the last."""
    return (epoch + 1) % every == 0 or epoch + 1 == epochs
