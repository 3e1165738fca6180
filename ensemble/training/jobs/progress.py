"""What a person sees while a member trains: a bar with the time left on a terminal, a line an epoch in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ensemble.recipe.resolve import training_stages
from ensemble.recipe.schema import Recipe, Stage
from ensemble.runs.history import Epoch


class ProgressWatcher:
    """Tells how one member trains, on stderr. Use as a context; silent bars where stderr is not a terminal."""

    def __init__(
        self, name: str, recipe: Recipe, bars: bool = True, tell: Callable[[int, Epoch], None] | None = None
    ) -> None:
        self.name, self.tell = name, tell
        self.epochs = sum(stage.epochs for stage in training_stages(recipe))
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not (bars and sys.stderr.isatty()),
        )
        self.task = self.bar.add_task(name, total=None)
        self.stages: list[Stage] = []
        self.done = self.before = self.at = 0

    def __enter__(self) -> ProgressWatcher:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def resumed(self, epochs: int) -> None:
        """So many epochs were done before an interruption."""
        self.done = self.before = epochs

    def stage(self, index: int, stage: Stage, batches: int) -> None:
        """A stage begins; `batches` training batches an epoch."""
        self.at = index
        done = self.bar.tasks[0].completed
        left = batches * (self.epochs - self.done)  # a first guess, mended after an epoch with its validation
        self.bar.update(self.task, description=f"{self.name} {stage.train}", total=done + left)

    def batch(self) -> None:
        """One batch is done, of training, validation or the finder."""
        self.bar.advance(self.task)

    def epoch(self, row: Epoch) -> None:
        """An epoch is done: print its line, and tell the bar how much is left."""
        self.done += 1
        steps = self.bar.tasks[0].completed / (self.done - self.before)
        self.bar.update(self.task, total=int(steps * (self.epochs - self.before)))
        self.console.print(f"{self.name}  {describe(row, self.done, self.epochs)}")
        if self.tell:
            self.tell(self.done, row)

    def reading(self, done: int, total: int) -> None:
        """`done` of `total` images have been read."""
        self.bar.update(self.task, description=f"{self.name} reading images", completed=done, total=total)
        if done == total:
            self.bar.update(self.task, description=self.name, completed=0, total=None)


def describe(row: Epoch, done: int, total: int) -> str:
    """One line for an epoch; `done` counts from 1 over all stages."""
    parts = [f"epoch {done}/{total}", f"stage {row.stage}", f"loss {row.train_loss:.4f}"]
    parts.append(f"accuracy {row.train_accuracy:.4f}")
    if row.valid_loss is not None and row.valid_accuracy is not None:
        parts += [f"valid loss {row.valid_loss:.4f}", f"valid accuracy {row.valid_accuracy:.4f}"]
    return "  ".join([*parts, f"lr {row.lr:.2e}", f"{row.seconds:.1f} s"])
