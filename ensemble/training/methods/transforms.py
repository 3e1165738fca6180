"""Augmentation transforms of a batch of images."""

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
    """Base class: `changed` transforms a training batch, float (n, c, h, w) between 0 and 1, to the same shape.

    Random numbers are drawn for each image from torch's global generator, on the batch's device.
    """

    split_idx, order = 0, 30

    def __init__(self) -> None:
        super().__init__(p=1.0)

    def before_call(self, b: Any, split_idx: int) -> None:
        """Enable the transform; `changed` draws random numbers for the whole batch at once."""
        self.do = True

    def encodes(self, x: TensorImage) -> TensorImage:
        """The transformed batch; a single image, as `show_batch` may pass, is returned unchanged."""
        return x.as_subclass(type(x)) if x.ndim != 4 else type(x)(self.changed(x.as_subclass(Tensor)))

    def changed(self, x: Tensor) -> Tensor:
        """Transform float (n, c, h, w) to the same shape."""
        raise NotImplementedError


class Loader(Protocol):
    """batch_items: int64 (n,), indices of the items in the current batch.  epoch: from 0.  items: their number."""

    batch_items: Ints
    epoch: int
    items: int


class ItemTransform(BatchTransform):
    """A transform that depends on the items of the batch and the epoch; the active loader sets `loader`."""

    loader: Loader | None = None


class Automatic(BatchTransform):
    """Applies a torchvision transform of single uint8 images to each image of the batch."""

    def __init__(self, operation: v2.Transform) -> None:
        super().__init__()
        self.operation = operation

    def changed(self, x: Tensor) -> Tensor:
        """Transform float (n, c, h, w) between 0 and 1 to the same shape, in steps of 1/255."""
        pixels = (x * 255).round().to(torch.uint8)
        return torch.stack([self.operation(image) for image in pixels]).to(x.dtype) / 255


class AlternateFlip(ItemTransform):
    """Horizontal flip of each image in every other epoch; whether in even or odd ones is random (Jordan 2024)."""

    def __init__(self) -> None:
        super().__init__()
        self.salt = int(torch.randint(2**31, ()))
        self.first = np.empty(0, np.int64)

    def changed(self, x: Tensor) -> Tensor:
        """Transform float (n, c, h, w) to the same shape; unchanged without a loader."""
        if self.loader is None:
            return x
        if len(self.first) != self.loader.items:
            self.first = np.random.default_rng(self.salt).integers(0, 2, self.loader.items)
        flipped = torch.from_numpy((self.first[self.loader.batch_items] + self.loader.epoch) % 2 == 1).to(x.device)
        return torch.where(flipped[:, None, None, None], x.flip(-1), x)


class FlipShift(BatchTransform):
    """Horizontal flip with probability `flip` and shift by up to `shift` pixels, with reflection padding.

    One gather for the whole batch.
    """

    def __init__(self, flip: float, shift: int) -> None:
        super().__init__()
        self.flip, self.shift = flip, shift

    def changed(self, x: Tensor) -> Tensor:
        """Transform float (n, c, h, w) to the same shape."""
        return flip_shift(x, self.flip, self.shift)


class UpsideDown(BatchTransform):
    """Vertical flip with probability `p`."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.probability = p

    def changed(self, x: Tensor) -> Tensor:
        """Transform float (n, c, h, w) to the same shape."""
        flipped = torch.rand(len(x), device=x.device) < self.probability
        return torch.where(flipped[:, None, None, None], x.flip(-2), x)


def flip_shift(x: Tensor, flip: float, shift: int) -> Tensor:
    """x (n, c, h, w) with each image flipped with probability `flip` and shifted by -shift..shift pixels."""
    n, _, h, w = x.shape
    rows = _shifted_positions(n, h, shift, x.device)
    columns = _shifted_positions(n, w, shift, x.device)
    flipped = torch.rand(n, device=x.device) < flip
    columns = torch.where(flipped[:, None], columns.flip(1), columns)
    images = torch.arange(n, device=x.device)[:, None, None]
    # indexing in channels-last order copies the three values of a pixel together
    shifted = x.permute(0, 2, 3, 1)[images, rows[:, :, None], columns[:, None, :]]
    return shifted.permute(0, 3, 1, 2)


def _shifted_positions(n: int, length: int, shift: int, device: torch.device) -> Tensor:
    """Positions 0..length-1, shifted by a random step per image and reflected at the ends, int64 (n, length)."""
    steps = torch.randint(-shift, shift + 1, (n, 1), device=device)
    positions = (torch.arange(length, device=device) + steps).abs()
    return (length - 1) - (length - 1 - positions).abs()


class Cutout(BatchTransform):
    """Cutout (DeVries & Taylor 2017): a random square of side `side` in each image is set to the batch mean.

    Near the border, part of the square may be outside the image.
    """

    order = 40

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def changed(self, x: Tensor) -> Tensor:
        """Transform float (n, c, h, w) to the same shape."""
        rows, columns = (_mask_around(len(x), length, self.side, x.device) for length in x.shape[2:])
        hidden = (rows[:, :, None] & columns[:, None, :])[:, None]
        return torch.where(hidden, x.mean(dim=(0, 2, 3))[:, None, None], x)


def _mask_around(n: int, length: int, side: int, device: torch.device) -> Tensor:
    """Mask of `side` positions around a random one, bool (n, length)."""
    first = torch.randint(0, length, (n, 1), device=device) - side // 2
    positions = torch.arange(length, device=device)
    return (positions >= first) & (positions < first + side)


GREY = (0.299, 0.587, 0.114)
"""Luma weights of red, green and blue, ITU-R 601, as in Pillow's mode `L`."""


class Noise(BatchTransform):
    """Gaussian noise on every value, with a standard deviation per image drawn between 0 and `max_strength`."""

    order = 50

    def __init__(self, max_strength: float = 0.08) -> None:
        super().__init__()
        self.max_strength = max_strength

    def changed(self, x: Tensor) -> Tensor:
        """Transform float (n, c, h, w) to the same shape."""
        strength = self.max_strength * torch.rand(len(x), 1, 1, 1, device=x.device)
        return (x + strength * torch.randn_like(x)).clamp(0, 1)


class Grey(BatchTransform):
    """Conversion to greyscale with probability `p`."""

    order = 45

    def __init__(self, p: float) -> None:
        super().__init__()
        self.probability = p

    def changed(self, x: Tensor) -> Tensor:
        """Transform float (n, 3, h, w) to the same shape."""
        weights = torch.tensor(GREY, device=x.device, dtype=x.dtype).view(1, 3, 1, 1)
        mask = torch.rand(len(x), 1, 1, 1, device=x.device) < self.probability
        return torch.where(mask, (x * weights).sum(1, keepdim=True).expand_as(x), x)


class Deform(BatchTransform):
    """Smooth elastic deformation (Ronneberger et al. 2015): a coarse grid of random displacements, bicubic between.

    grid: points per side.  strength: standard deviation of the displacements, as a share of the image's side.
    """

    order = 35

    def __init__(self, grid: int = 4, strength: float = 0.03) -> None:
        super().__init__()
        self.grid, self.strength = grid, strength

    def changed(self, x: Tensor) -> Tensor:
        """Transform float (n, c, h, w) to the same shape, with reflection padding."""
        n, _, h, w = x.shape
        # coordinates range from -1 to 1, so a side has length 2
        offsets = 2 * self.strength * torch.randn(n, 2, self.grid, self.grid, device=x.device, dtype=x.dtype)
        offsets = functional.interpolate(offsets, (h, w), mode="bicubic", align_corners=True)
        identity = torch.eye(2, 3, device=x.device, dtype=x.dtype).expand(n, 2, 3)
        coordinates = functional.affine_grid(identity, [n, 1, h, w], align_corners=False) + offsets.permute(
            0, 2, 3, 1
        )
        return functional.grid_sample(x, coordinates, padding_mode="reflection", align_corners=False)
