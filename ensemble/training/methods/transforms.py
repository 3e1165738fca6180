"""Augmentations of a batch of images."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from fastai.vision.augment import RandTransform
from fastai.vision.core import TensorImage
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from ensemble.core.predictions import Ints


class BatchTransform(RandTransform):  # type: ignore[misc]
    """Changes a training batch, float (n, c, h, w) between 0 and 1, to one of the same shape, in `changed`.

    It draws from torch's global generator, on the batch's device, a value for each image.
    """

    split_idx, order = 0, 30

    def __init__(self) -> None:
        super().__init__(p=1.0)

    def before_call(self, b: Any, split_idx: int) -> None:
        """Nothing is drawn here: `changed` draws for the whole batch at once."""
        self.do = True

    def encodes(self, x: TensorImage) -> TensorImage:
        """The batch changed; a single image, as `show_batch` may hand on, as it is."""
        return x.as_subclass(type(x)) if x.ndim != 4 else type(x)(self.changed(x.as_subclass(Tensor)))

    def changed(self, x: Tensor) -> Tensor:
        """float (n, c, h, w) to the same shape."""
        raise NotImplementedError


class Loader(Protocol):
    """at: int64 (n,), the numbers of the items in the batch at hand.  epoch: from 0.  items: how many there are."""

    at: Ints
    epoch: int
    items: int


class ItemTransform(BatchTransform):
    """A transform that asks its loader, which sets itself here, what items the batch holds and in which epoch."""

    loader: Loader | None = None


class Automatic(BatchTransform):
    """A transform of single uint8 images, drawn anew for each image of the batch."""

    def __init__(self, operation: v2.Transform) -> None:
        super().__init__()
        self.operation = operation

    def changed(self, x: Tensor) -> Tensor:
        """float (n, c, h, w) between 0 and 1 to the same shape, in steps of 1/255."""
        pixels = (x * 255).round().to(torch.uint8)
        return torch.stack([self.operation(image) for image in pixels]).to(x.dtype) / 255


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
