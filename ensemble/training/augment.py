"""Augmentation policies: a name gives the transforms that fastai applies to each training batch.

A policy is a function of the image size that returns a list of fastai batch transforms; images arrive as
float (n, 3, size, size) between 0 and 1, before normalisation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from fastai.vision.augment import RandTransform, aug_transforms
from fastai.vision.core import TensorImage
from torch import Tensor

from ensemble.predictions import Ints
from ensemble.registry import Registry

Policy = Callable[[int], list[Any]]

policies: Registry[Policy] = Registry("augmentation policy")


class Loader(Protocol):
    """at: int64 (n,), the numbers of the items in the batch at hand.  epoch: from 0.  n: items."""

    at: Ints
    epoch: int
    n: int


class ItemTransform(RandTransform):  # type: ignore[misc]
    """A transform that asks its loader, which sets itself here, what items the batch holds and in which epoch."""

    loader: Loader | None = None


class AlternateFlip(ItemTransform):
    """Mirror each image in every other epoch, beginning at random: no side is seen twice in a row (Jordan 2024)."""

    split_idx, order = 0, 30

    def __init__(self) -> None:
        super().__init__(p=1.0)
        self.salt = int(torch.randint(2**31, ()))
        self.first = np.empty(0, np.int64)

    def before_call(self, b: Any, split_idx: int) -> None:
        """Nothing is drawn here: the salt decides."""
        self.do = True

    def encodes(self, x: TensorImage) -> TensorImage:
        """float (n, c, h, w) to the same shape."""
        if self.loader is None or x.ndim != 4:
            return x.as_subclass(type(x))
        if len(self.first) != self.loader.n:
            self.first = np.random.default_rng(self.salt).integers(0, 2, self.loader.n)
        turned = torch.from_numpy((self.first[self.loader.at] + self.loader.epoch) % 2 == 1).to(x.device)
        plain = x.as_subclass(Tensor)
        return type(x)(torch.where(turned[:, None, None, None], plain.flip(-1), plain))


class FlipShift(RandTransform):  # type: ignore[misc]
    """Mirror each image with probability `flip` and move it by up to `shift` pixels, mirrored at the border.

    One gather for the whole batch; draws from torch's global generator.
    """

    split_idx, order = 0, 30

    def __init__(self, flip: float, shift: int) -> None:
        super().__init__(p=1.0)
        self.flip, self.shift = flip, shift

    def before_call(self, b: Any, split_idx: int) -> None:
        """Nothing is drawn here: `encodes` draws for the whole batch at once."""
        self.do = True

    def encodes(self, x: TensorImage) -> TensorImage:
        """float (n, c, h, w) to the same shape."""
        return (
            x.as_subclass(type(x))
            if x.ndim != 4
            else type(x)(flip_shift(x.as_subclass(Tensor), self.flip, self.shift))
        )


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


class Cutout(RandTransform):  # type: ignore[misc]
    """Hide a square of `side` pixels at a random place of each image by the batch's mean (DeVries & Taylor 2017).

    At the border a part of the square lies outside. Draws from torch's global generator.
    """

    split_idx, order = 0, 40

    def __init__(self, side: int) -> None:
        super().__init__(p=1.0)
        self.side = side

    def before_call(self, b: Any, split_idx: int) -> None:
        """Nothing is drawn here: `encodes` draws for the whole batch at once."""
        self.do = True

    def encodes(self, x: TensorImage) -> TensorImage:
        """float (n, c, h, w) to the same shape."""
        if x.ndim != 4:
            return x.as_subclass(type(x))
        plain = x.as_subclass(Tensor)
        rows, columns = (_around(len(plain), length, self.side, plain.device) for length in plain.shape[2:])
        hidden = (rows[:, :, None] & columns[:, None, :])[:, None]
        return type(x)(torch.where(hidden, plain.mean(dim=(0, 2, 3))[:, None, None], plain))


def _around(n: int, length: int, side: int, device: torch.device) -> Tensor:
    """bool (n, length): the `side` places around a random one."""
    first = torch.randint(0, length, (n, 1), device=device) - side // 2
    place = torch.arange(length, device=device)
    return (place >= first) & (place < first + side)


@policies.register("none")
def none(size: int) -> list[Any]:
    """The images as they are."""
    return []


@policies.register("flip")
def flip(size: int) -> list[Any]:
    """Mirrored left to right, half of the time."""
    return [FlipShift(flip=0.5, shift=0)]


@policies.register("flip-shift")
def flip_and_shift(size: int) -> list[Any]:
    """Mirrored, and moved by up to an eighth of the side: the usual policy for CIFAR."""
    return [FlipShift(flip=0.5, shift=max(1, size // 8))]


@policies.register("alternate")
def alternate(size: int) -> list[Any]:
    """Mirrored in every other epoch, and moved by up to a sixteenth of the side: for short trainings."""
    return [AlternateFlip(), FlipShift(flip=0.0, shift=max(1, size // 16))]


@policies.register("alternate-cutout")
def alternate_cutout(size: int) -> list[Any]:
    """Mirrored in every other epoch, moved by up to an eighth of the side, a square of a quarter of it hidden."""
    return [AlternateFlip(), FlipShift(flip=0.0, shift=max(1, size // 8)), Cutout(max(1, size // 4))]


@policies.register("orientation")
def orientation(size: int) -> list[Any]:
    """Turned by up to 10 degrees, zoomed by up to 10 %, moved by up to a sixteenth of the side; never mirrored."""
    return [
        *aug_transforms(do_flip=False, max_rotate=10.0, max_zoom=1.1, max_warp=0.0, max_lighting=0.0, size=None),
        FlipShift(flip=0.0, shift=max(1, size // 16)),
    ]


@policies.register("standard")
def standard(size: int) -> list[Any]:
    """fastai's `aug_transforms`: mirror, rotation, zoom, perspective, lighting."""
    return list(aug_transforms())
