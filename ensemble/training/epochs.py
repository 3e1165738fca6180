"""What happens around each epoch: random states put back, validation when it is due, checkpoints, an early stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fastai.callback.core import Callback, CancelFitException, CancelValidException
from fastai.learner import Learner

from ensemble.recipe.schema import Recipe
from ensemble.runs.history import Epoch
from ensemble.training.checkpoint import Checkpoint
from ensemble.training.seeds import restore_random_states
from ensemble.training.stopping import should_stop


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
