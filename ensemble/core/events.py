"""Listeners: how a call that takes time tells of its progress. The library itself prints nothing."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from ensemble.core.errors import one_line


class Listener(AbstractContextManager["Listener"]):
    """Is told of notes and progress, and does nothing. Subclasses show them.

    A call that takes time is a `with listener:` block, and blocks may be nested; a listener that draws begins with
    the outermost and ends with it. Listeners are sent to other processes, so they are picklable.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._noted: set[str] = set()

    def note(self, line: str) -> None:
        """One line that a person should know, such as a default that was chosen."""

    def note_once(self, line: str) -> None:
        """A note that is not repeated."""
        if line not in self._noted:
            self._noted.add(line)
            self.note(line)

    def epoch(self, run: str, line: str) -> None:
        """A run has finished an epoch, described by `line`."""

    def progress(self, task: str, done: float, total: float | None) -> None:
        """`done` of `total` steps of a task; None where the total is not known yet."""

    def finished(self, task: str) -> None:
        """No more steps of a task follow."""

    def without_bars(self) -> Listener:
        """The listener of a process whose bars would be drawn over those of others."""
        return self

    def begin(self) -> None:
        """The outermost block begins."""

    def end(self) -> None:
        """The outermost block ends."""

    def __enter__(self) -> Listener:
        self._depth += 1
        if self._depth == 1:
            self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.end()


class Lines(Listener):
    """Writes notes and epochs as lines to stderr, and no progress: for pipes and logs."""

    def note(self, line: str) -> None:
        """The line on stderr."""
        print(line, file=sys.stderr, flush=True)

    def epoch(self, run: str, line: str) -> None:
        """The run's id and the line on stderr."""
        self.note(f"{run}  {line}")


class Bars(Lines):
    """Writes lines above rich's progress bars, on a terminal's stderr or in a notebook."""

    def __init__(self) -> None:
        super().__init__()
        self._progress: Any = None
        self._tasks: dict[str, Any] = {}

    def note(self, line: str) -> None:
        """The line, above the bars."""
        if self._progress is None:
            super().note(line)
        else:
            self._progress.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def progress(self, task: str, done: float, total: float | None) -> None:
        """Move a bar, which is made for each task."""
        if self._progress is None:
            return
        if task not in self._tasks:
            self._tasks[task] = self._progress.add_task(one_line(task), total=total)
        self._progress.update(self._tasks[task], completed=done, total=total)

    def finished(self, task: str) -> None:
        """Take the bar away."""
        if task in self._tasks:
            self._progress.remove_task(self._tasks.pop(task))

    def without_bars(self) -> Listener:
        """Lines alone."""
        return Lines()

    def begin(self) -> None:
        """Start to draw."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=not _in_notebook()), transient=True)
        self._progress.start()

    def end(self) -> None:
        """Take the bars away."""
        self._progress.stop()
        self._progress, self._tasks = None, {}


def default_listener() -> Listener:
    """Bars on a terminal and in a notebook, lines elsewhere."""
    return Bars() if _in_notebook() or sys.stderr.isatty() else Lines()


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    return type(running).__name__ == "ZMQInteractiveShell"
