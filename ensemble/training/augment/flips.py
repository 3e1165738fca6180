"""Mirrored and moved."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ensemble.training.augment.base import BatchTransform, ItemTransform


class AlternateFlip(ItemTransform):
    """Mirror each image in every other epoch, beginning at random: no side is seen twice in a row (Jordan 2024)."""

    def __init__(self) -> None:
        super().__init__()
        self.salt = int(torch.randint(2**31, ()))
        self.first = np.empty(0, np.int64)

    def changed(self, x: Tensor) -> Tensor:
        """float (n, c, h, w) to the same shape; as it is where no loader says what it holds."""
        if self.loader is None:
            return x
        if len(self.first) != self.loader.items:
            self.first = np.random.default_rng(self.salt).integers(0, 2, self.loader.items)
        turned = torch.from_numpy((self.first[self.loader.at] + self.loader.epoch) % 2 == 1).to(x.device)
        return torch.where(turned[:, None, None, None], x.flip(-1), x)


class FlipShift(BatchTransform):
    """Mirror each image with probability `flip` and move it by up to `shift` pixels, mirrored at the border.

    One gather for the whole batch.
    """

    def __init__(self, flip: float, shift: int) -> None:
        super().__init__()
        self.flip, self.shift = flip, shift

    def changed(self, x: Tensor) -> Tensor:
        """float (n, c, h, w) to the same shape."""
        return flip_shift(x, self.flip, self.shift)


class UpsideDown(BatchTransform):
    """Turn each image upside down with probability `p`."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.share = p

    def changed(self, x: Tensor) -> Tensor:
        """float (n, c, h, w) to the same shape."""
        turned = torch.rand(len(x), device=x.device) < self.share
        return torch.where(turned[:, None, None, None], x.flip(-2), x)


def flip_shift(x: Tensor, flip: float, shift: int) -> Tensor:
    """x (n, c, h, w), each image mirrored with probability `flip` and moved by -shift..shift pixels."""
    n, _, h, w = x.shape
    rows = _moved(n, h, shift, x.device)
    columns = _moved(n, w, shift, x.device)
    mirrored = torch.rand(n, device=x.device) < flip
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    images = torch.arange(n, device=x.device)[:, None, None]
    # indexing with the channel last keeps the three values of a pixel together in memory
    moved = x.permute(0, 2, 3, 1)[images, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def _moved(n: int, length: int, shift: int, device: torch.device) -> Tensor:
    """int64 (n, length): the positions 0..length-1 moved by a random step and reflected at the ends."""
    steps = torch.randint(-shift, shift + 1, (n, 1), device=device)
    place = (torch.arange(length, device=device) + steps).abs()
    return (length - 1) - (length - 1 - place).abs()
