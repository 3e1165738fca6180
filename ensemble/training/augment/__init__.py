"""Augmentation policies: a name gives the transforms that fastai applies to each training batch.

A policy is a function of the image size that returns a list of fastai batch transforms; images arrive as
float (n, 3, size, size) between 0 and 1, before normalisation. `a+b` is one policy after another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastai.vision.augment import Brightness, Contrast, Hue, Saturation, aug_transforms
from torchvision.transforms import v2

from ensemble.registry import Registry
from ensemble.training.augment.automatic import Automatic
from ensemble.training.augment.base import BatchTransform, ItemTransform
from ensemble.training.augment.flips import AlternateFlip, FlipShift, UpsideDown
from ensemble.training.augment.hidden import Cutout
from ensemble.training.augment.pixels import Deform, Grey, Noise

__all__ = ["BatchTransform", "ItemTransform", "policies", "transforms"]

Policy = Callable[[int], list[Any]]

policies: Registry[Policy] = Registry("augmentation policy")


def transforms(name: str, size: int) -> list[Any]:
    """The transforms of a policy, or of several joined by `+`, for images of `size` pixels. Raises RecipeError."""
    return [transform for part in name.split("+") for transform in policies.get(part)(size)]


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


@policies.register("flip-hv")
def flip_both_ways(size: int) -> list[Any]:
    """Mirrored left to right and upside down, each half of the time."""
    return [FlipShift(flip=0.5, shift=0), UpsideDown()]


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


@policies.register("brightness")
def brightness(size: int) -> list[Any]:
    """fastai's brightness: up to a fifth darker or lighter, three images in four."""
    return [Brightness(max_lighting=0.2, p=0.75)]


@policies.register("colour")
def colour(size: int) -> list[Any]:
    """fastai's brightness and contrast, saturation and hue, up to a fifth (hue a twentieth)."""
    return [
        Brightness(max_lighting=0.2, p=0.75),
        Contrast(max_lighting=0.2, p=0.75),
        Saturation(max_lighting=0.2, p=0.75),
        Hue(max_hue=0.05, p=0.75),
    ]


@policies.register("grayscale")
def grayscale(size: int) -> list[Any]:
    """Without colour, one image in five."""
    return [Grey(p=0.2)]


@policies.register("noise")
def noise(size: int) -> list[Any]:
    """Gaussian noise of up to 0.08 of the range."""
    return [Noise()]


@policies.register("deform")
def deform(size: int) -> list[Any]:
    """Elastic deformation: a grid of 4 x 4 points moved by 3 % of the side."""
    return [Deform()]


@policies.register("dermoscopy")
def dermoscopy(size: int) -> list[Any]:
    """For images without an up or a down: turned, mirrored, zoomed, moved, deformed, recoloured, with noise."""
    return [
        *aug_transforms(flip_vert=True, max_rotate=45.0, max_zoom=1.2, max_warp=0.0, max_lighting=0.0, size=None),
        FlipShift(flip=0.0, shift=max(1, size // 16)),
        Deform(strength=0.015),
        *colour(size),
        Noise(most=0.04),
    ]


@policies.register("randaugment")
def randaugment(size: int) -> list[Any]:
    """Two operations of RandAugment at magnitude 9 (Cubuk et al. 2020), after a mirror half of the time."""
    return [FlipShift(flip=0.5, shift=0), Automatic(v2.RandAugment())]


@policies.register("trivial")
def trivial(size: int) -> list[Any]:
    """One operation of TrivialAugment, wide (Mueller & Hutter 2021), after a mirror half of the time."""
    return [FlipShift(flip=0.5, shift=0), Automatic(v2.TrivialAugmentWide())]
