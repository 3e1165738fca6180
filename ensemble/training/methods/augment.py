"""Augmentation policies and image mixing, by name.

A policy is a function of the image size that returns a list of fastai batch transforms. Their input is
float (n, 3, size, size) between 0 and 1, before normalisation. `a+b` applies policy a, then b.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastai.callback.core import Callback
from fastai.vision.augment import Brightness, Contrast, Hue, Saturation, aug_transforms
from torch import Tensor
from torchvision.transforms import v2

from ensemble.core.registry import Registry
from ensemble.recipe.schema import ResolvedRecipe
from ensemble.training.methods.transforms import (
    AlternateFlip,
    Automatic,
    BatchTransform,
    Cutout,
    Deform,
    FlipShift,
    Grey,
    ItemTransform,
    Noise,
    UpsideDown,
)

__all__ = ["BatchTransform", "ItemTransform", "policies", "transforms"]

Policy = Callable[[int], list[Any]]

policies: Registry[Policy] = Registry("augmentation policy")


def transforms(name: str, size: int) -> list[Any]:
    """Transforms of one policy or of several joined by `+`, for images of side `size`. Raises RecipeError."""
    return [transform for part in name.split("+") for transform in policies.get(part)(size)]


@policies.register("none")
def none(size: int) -> list[Any]:
    """No augmentation."""
    return []


@policies.register("flip")
def flip(size: int) -> list[Any]:
    """Horizontal flip with probability 1/2."""
    return [FlipShift(flip=0.5, shift=0)]


@policies.register("flip-shift")
def flip_and_shift(size: int) -> list[Any]:
    """Horizontal flip and shift by up to 1/8 of the side, the usual policy for CIFAR."""
    return [FlipShift(flip=0.5, shift=max(1, size // 8))]


@policies.register("flip-hv")
def flip_both_ways(size: int) -> list[Any]:
    """Horizontal and vertical flip, each with probability 1/2."""
    return [FlipShift(flip=0.5, shift=0), UpsideDown()]


@policies.register("alternate")
def alternate(size: int) -> list[Any]:
    """Flip in every other epoch and shift by up to 1/16 of the side, for short trainings."""
    return [AlternateFlip(), FlipShift(flip=0.0, shift=max(1, size // 16))]


@policies.register("alternate-cutout")
def alternate_cutout(size: int) -> list[Any]:
    """Flip in every other epoch, shift by up to 1/8 of the side, cutout of a square of 1/4 of the side."""
    return [AlternateFlip(), FlipShift(flip=0.0, shift=max(1, size // 8)), Cutout(max(1, size // 4))]


@policies.register("orientation")
def orientation(size: int) -> list[Any]:
    """Rotation by up to 10 degrees, zoom by up to 10 %, shift by up to 1/16 of the side; no flip."""
    return [
        *aug_transforms(do_flip=False, max_rotate=10.0, max_zoom=1.1, max_warp=0.0, max_lighting=0.0, size=None),
        FlipShift(flip=0.0, shift=max(1, size // 16)),
    ]


@policies.register("standard")
def standard(size: int) -> list[Any]:
    """fastai's `aug_transforms`: flip, rotation, zoom, perspective, lighting."""
    return list(aug_transforms())


@policies.register("brightness")
def brightness(size: int) -> list[Any]:
    """fastai's `Brightness`: up to 0.2 darker or lighter, with probability 3/4."""
    return [Brightness(max_lighting=0.2, p=0.75)]


@policies.register("colour")
def colour(size: int) -> list[Any]:
    """fastai's brightness, contrast and saturation (up to 0.2) and hue (up to 0.05), each with probability 3/4."""
    return [
        Brightness(max_lighting=0.2, p=0.75),
        Contrast(max_lighting=0.2, p=0.75),
        Saturation(max_lighting=0.2, p=0.75),
        Hue(max_hue=0.05, p=0.75),
    ]


@policies.register("grayscale")
def grayscale(size: int) -> list[Any]:
    """Conversion to greyscale with probability 1/5."""
    return [Grey(p=0.2)]


@policies.register("noise")
def noise(size: int) -> list[Any]:
    """Gaussian noise with a standard deviation of up to 0.08 of the range."""
    return [Noise()]


@policies.register("deform")
def deform(size: int) -> list[Any]:
    """Elastic deformation: 4 x 4 grid points displaced with a standard deviation of 3 % of the side."""
    return [Deform()]


@policies.register("dermoscopy")
def dermoscopy(size: int) -> list[Any]:
    """For images without orientation: rotation, flips, zoom, shift, elastic deformation, colour, noise."""
    return [
        *aug_transforms(flip_vert=True, max_rotate=45.0, max_zoom=1.2, max_warp=0.0, max_lighting=0.0, size=None),
        FlipShift(flip=0.0, shift=max(1, size // 16)),
        Deform(strength=0.015),
        *colour(size),
        Noise(max_strength=0.04),
    ]


@policies.register("randaugment")
def randaugment(size: int) -> list[Any]:
    """Horizontal flip with probability 1/2, then RandAugment: two operations at magnitude 9 (Cubuk et al. 2020)."""
    return [FlipShift(flip=0.5, shift=0), Automatic(v2.RandAugment())]


@policies.register("trivial")
def trivial(size: int) -> list[Any]:
    """Horizontal flip with probability 1/2, then one TrivialAugment Wide operation (Mueller & Hutter 2021)."""
    return [FlipShift(flip=0.5, shift=0), Automatic(v2.TrivialAugmentWide())]


mixings: Registry[Callable[[ResolvedRecipe, int], list[Callback]]] = Registry("mixing")


class Mix(Callback):  # type: ignore[misc]
    """Mixes every training batch: images (b, 3, h, w), targets become float (b, k). Uses torch's generator."""

    def __init__(self, mix: v2.Transform) -> None:
        super().__init__()
        self.mix = mix

    def before_batch(self) -> None:
        """Mix images and targets of a training batch."""
        if self.training:
            images, targets = self.xb[0].as_subclass(Tensor), self.yb[0].as_subclass(Tensor)
            mixed, soft = self.mix(images, targets)
            self.learn.xb, self.learn.yb = (mixed,), (soft,)


@mixings.register("none")
def no_mixing(recipe: ResolvedRecipe, n_classes: int) -> list[Callback]:
    """No mixing."""
    return []


@mixings.register("mixup", keys=("mix_alpha",))
def mixup(recipe: ResolvedRecipe, n_classes: int) -> list[Callback]:
    """Convex combination of two images (Zhang et al. 2018), with weight from Beta(alpha, alpha)."""
    return [Mix(v2.MixUp(alpha=recipe.mix_alpha, num_classes=n_classes))]


@mixings.register("cutmix", keys=("mix_alpha",))
def cutmix(recipe: ResolvedRecipe, n_classes: int) -> list[Callback]:
    """A rectangle of one image pasted into another (Yun et al. 2019), with area from Beta(alpha, alpha)."""
    return [Mix(v2.CutMix(alpha=recipe.mix_alpha, num_classes=n_classes))]
