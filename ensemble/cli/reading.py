"""Progress bars on a terminal, and reading a data set behind one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble.cli.context import note

if TYPE_CHECKING:
    from ensemble.data.dataset import Dataset
    from ensemble.recipe.schema import DataSpec


def load_with_progress(spec: DataSpec, runs: Path, say: Callable[[str], None] = note) -> Dataset:
    """Load and check a data set. say: told what a person should see. Raises DataError."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from ensemble.data.load import load_dataset

    bar = Progress(
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("checking images", total=None)
        return load_dataset(
            spec, runs, progress=lambda done, total: bar.update(task, completed=done, total=total), note=say
        )


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """Progress with the time left, on a terminal: called with what is done, how many, of how many."""
    from rich.console import Console
    from rich.progress import Progress, TimeRemainingColumn

    terminal = sys.stderr.isatty()
    bar = Progress(
        *Progress.get_default_columns()[:2],
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not terminal,
    )
    tasks = {}

    def stage(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done, total=total)

    with bar:
        yield stage
