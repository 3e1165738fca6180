"""A watcher of trainings for benchmarks."""

from __future__ import annotations

from ensemble.recipe.schema import Stage
from ensemble.runs.history import Epoch


class Silent:
    """Nobody is told how it goes."""

    def resumed(self, epochs: int) -> None: ...
    def stage(self, index: int, stage: Stage, batches: int) -> None: ...
    def batch(self) -> None: ...
    def epoch(self, row: Epoch) -> None: ...
