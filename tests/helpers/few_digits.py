"""A few of the digits, and somebody who watches a training on them."""

from __future__ import annotations

import numpy as np

from ensemble.data.dataset import Dataset
from ensemble.data.digits import digits_dataset
from ensemble.recipe.schema import Stage
from ensemble.runs.history import Epoch


def few_digits(train: int, valid: int) -> Dataset:
    """The first digits of both splits; no test set."""
    whole = digits_dataset()
    splits = {name: whole.splits[name].take(np.arange(n)) for name, n in (("train", train), ("valid", valid))}
    return Dataset(whole.classes, splits, "", {}, whole.open_image, whole.content)


class Watched:
    """Counts the batches of which it is told, and may stop at one."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.batches, self.stop_at = 0, stop_at

    def resumed(self, epochs: int) -> None: ...
    def stage(self, index: int, stage: Stage, batches: int) -> None: ...
    def epoch(self, row: Epoch) -> None: ...

    def batch(self) -> None:
        self.batches += 1
        if self.batches == self.stop_at:
            raise KeyboardInterrupt
