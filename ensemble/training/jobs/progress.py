"""Progress of one member for a listener: steps of a progress bar and one line per epoch."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from ensemble.core.events import Listener
from ensemble.recipe.resolve import training_stages
from ensemble.recipe.schema import ResolvedRecipe, Stage
from ensemble.runs.history import Epoch


class ProgressWatcher:
    """Reports the training of one member to a listener; a context manager.

    on_epoch: called with the number of epochs done, from 1 over all stages, and the epoch's row.
    """

    def __init__(
        self,
        name: str,
        recipe: ResolvedRecipe,
        listener: Listener,
        on_epoch: Callable[[int, Epoch], None] | None = None,
    ) -> None:
        self.name, self.listener, self.on_epoch = name, listener, on_epoch
        self.epochs = sum(stage.epochs for stage in training_stages(recipe))
        self.total: int | None = None
        self.task, self.steps = name, 0
        self.done = self.before = 0

    def __enter__(self) -> ProgressWatcher:
        self.listener.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.listener.finished(self.task)
        self.listener.__exit__(kind, error, trace)

    def resumed(self, epochs: int) -> None:
        """Set the number of epochs that a resumed run had completed."""
        self.done = self.before = epochs

    def stage(self, index: int, stage: Stage, batches: int) -> None:
        """Start a stage; batches: training batches per epoch."""
        self._begin(f"{self.name} {stage.train}")
        # without validation batches at first; corrected after each epoch
        self.total = self.steps + batches * (self.epochs - self.done)

    def batch(self) -> None:
        """Count one batch of training, validation or the finder."""
        self.steps += 1
        self.listener.progress(self.task, self.steps, self.total)

    def epoch(self, row: Epoch) -> None:
        """Report a completed epoch and update the total number of steps."""
        self.done += 1
        self.total = int(self.steps / (self.done - self.before) * (self.epochs - self.before))
        self.listener.epoch(self.name, describe(row, self.done, self.epochs))
        if self.on_epoch:
            self.on_epoch(self.done, row)

    def reading(self, done: int, total: int) -> None:
        """Report that `done` of `total` images have been read."""
        self._begin(f"{self.name} reading images")
        self.listener.progress(self.task, done, total)
        if done == total:
            self._begin(self.name)

    def _begin(self, task: str) -> None:
        if task != self.task:
            self.listener.finished(self.task)
            self.task = task


def describe(row: Epoch, done: int, total: int) -> str:
    """Text line of an epoch; `done` counts from 1 over all stages."""
    parts = [f"epoch {done}/{total}", f"stage {row.stage}", f"loss {row.train_loss:.4f}"]
    parts.append(f"accuracy {row.train_accuracy:.4f}")
    if row.valid_loss is not None and row.valid_accuracy is not None:
        parts += [f"valid loss {row.valid_loss:.4f}", f"valid accuracy {row.valid_accuracy:.4f}"]
    return "  ".join([*parts, f"lr {row.lr:.2e}", f"{row.seconds:.1f} s"])
