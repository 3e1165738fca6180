"""Augmentation policies and mixing of images, by name.

A policy is a function of the image size that returns a list of fastai batch transforms; images arrive as
float (n, 3, size, size) between 0 and 1, before normalisation. `a+b` is one policy after another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastai.callback.core import Callback
from fastai.vision.augment import Brightness, Contrast, Hue, Saturation, aug_transforms
from torch import Tensor
from torchvision.transforms import v2

from ensemble.core.registry import Registry
from ensemble.recipe.schema import Recipe
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


mixings: Registry[Callable[[Recipe, int], list[Callback]]] = Registry("mixing")


class Mix(Callback):  # type: ignore[misc]
    """Mixes every training batch: images (b, 3, h, w), targets then float (b, k). Draws from torch's generator."""

    def __init__(self, mix: v2.Transform) -> None:
        super().__init__()
        self.mix = mix

    def before_batch(self) -> None:
        """Mix what is about to be trained on."""
        if self.training:
            images, targets = self.xb[0].as_subclass(Tensor), self.yb[0].as_subclass(Tensor)
            mixed, soft = self.mix(images, targets)
            self.learn.xb, self.learn.yb = (mixed,), (soft,)


@mixings.register("none")
def no_mixing(recipe: Recipe, n_classes: int) -> list[Callback]:
    """Images as they are."""
    return []


@mixings.register("mixup")
def mixup(recipe: Recipe, n_classes: int) -> list[Callback]:
    """A share of one image and the rest of another (Zhang et al. 2018), the share from Beta(alpha, alpha)."""
    return [Mix(v2.MixUp(alpha=recipe.mix_alpha, num_classes=n_classes))]


@mixings.register("cutmix")
def cutmix(recipe: Recipe, n_classes: int) -> list[Callback]:
    """A rectangle of one image in another (Yun et al. 2019), its area from Beta(alpha, alpha)."""
    return [Mix(v2.CutMix(alpha=recipe.mix_alpha, num_classes=n_classes))]
