"""Many runs of one command: how far it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ensemble.recipe.resolve import training_stages

if TYPE_CHECKING:
    from ensemble.training.plan import Job


class Several:
    """How far a command is that trains many runs, and how long the rest takes if it is as quick."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = [job for job in jobs if not job.run.complete]
        self.epochs = sum(map(_epochs, self.jobs))
        self.done: list[Job] = []
        self.started = time.monotonic()

    def ended(self, job: Job) -> None:
        """A job is done, or has failed."""
        if job in self.jobs:
            self.done.append(job)

    def left(self) -> str:
        """`3 of 12 trained, about 14 min left`; nothing before the first and for one alone."""
        if not self.done or len(self.done) == len(self.jobs):
            return ""
        share = sum(map(_epochs, self.done)) / self.epochs
        seconds = (time.monotonic() - self.started) * (1 - share) / share
        return f"{len(self.done)} of {len(self.jobs)} trained, about {duration(seconds)} left"


def _epochs(job: Job) -> int:
    """Of all networks that a job needs."""
    return sum(stage.epochs for part in job.all() if part.kind != "folds" for stage in training_stages(part.recipe))


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
