"""Noise, grey and elastic deformation, a value for each image of a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ensemble.training.augment.base import BatchTransform

GREY = (0.299, 0.587, 0.114)
"""How bright each primary is, ITU-R 601, as Pillow's `L`."""


class Noise(BatchTransform):
    """Gaussian noise on every value, of a strength between nothing and `most` (of 1) for each image."""

    order = 50

    def __init__(self, most: float = 0.08) -> None:
        super().__init__()
        self.most = most

    def changed(self, x: Tensor) -> Tensor:
        """float (n, c, h, w) to the same shape."""
        strength = self.most * torch.rand(len(x), 1, 1, 1, device=x.device)
        return (x + strength * torch.randn_like(x)).clamp(0, 1)


class Grey(BatchTransform):
    """Take the colour from each image with probability `p`."""

    order = 45

    def __init__(self, p: float) -> None:
        super().__init__()
        self.share = p

    def changed(self, x: Tensor) -> Tensor:
        """float (n, 3, h, w) to the same shape."""
        weights = torch.tensor(GREY, device=x.device, dtype=x.dtype).view(1, 3, 1, 1)
        chosen = torch.rand(len(x), 1, 1, 1, device=x.device) < self.share
        return torch.where(chosen, (x * weights).sum(1, keepdim=True).expand_as(x), x)


class Deform(BatchTransform):
    """Smooth elastic deformation (Ronneberger et al. 2015): a coarse grid moved at random, bicubic in between.

    grid: points a side.  strength: the standard deviation of their moves, of the image's side.
    """

    order = 35

    def __init__(self, grid: int = 4, strength: float = 0.03) -> None:
        super().__init__()
        self.grid, self.strength = grid, strength

    def changed(self, x: Tensor) -> Tensor:
        """float (n, c, h, w) to the same shape, mirrored at the border."""
        n, _, h, w = x.shape
        # places are counted from -1 to 1, so a side is 2 long
        moves = 2 * self.strength * torch.randn(n, 2, self.grid, self.grid, device=x.device, dtype=x.dtype)
        moves = functional.interpolate(moves, (h, w), mode="bicubic", align_corners=True)
        straight = torch.eye(2, 3, device=x.device, dtype=x.dtype).expand(n, 2, 3)
        places = functional.affine_grid(straight, [n, 1, h, w], align_corners=False) + moves.permute(0, 2, 3, 1)
        return functional.grid_sample(x, places, padding_mode="reflection", align_corners=False)
