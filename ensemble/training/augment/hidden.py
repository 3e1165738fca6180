"""Parts hidden."""

from __future__ import annotations

import torch
from torch import Tensor

from ensemble.training.augment.base import BatchTransform


class Cutout(BatchTransform):
    """Hide a square of `side` pixels at a random place of each image by the batch's mean (DeVries & Taylor 2017).

    At the border a part of the square lies outside.
    """

    order = 40

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def changed(self, x: Tensor) -> Tensor:
        """float (n, c, h, w) to the same shape."""
        rows, columns = (_around(len(x), length, self.side, x.device) for length in x.shape[2:])
        hidden = (rows[:, :, None] & columns[:, None, :])[:, None]
        return torch.where(hidden, x.mean(dim=(0, 2, 3))[:, None, None], x)


def _around(n: int, length: int, side: int, device: torch.device) -> Tensor:
    """bool (n, length): the `side` places around a random one."""
    first = torch.randint(0, length, (n, 1), device=device) - side // 2
    place = torch.arange(length, device=device)
    return (place >= first) & (place < first + side)
