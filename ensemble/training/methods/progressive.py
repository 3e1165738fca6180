"""Progressive resizing: small images in the first epochs, the full size in the last (Howard 2018; FFCV 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from fastai.callback.core import Callback
from torch import Tensor
from torch.nn import functional

from ensemble.core.errors import RecipeError
from ensemble.models.network import Network
from ensemble.recipe.schema import Recipe

FULL = 0.75
"""The share of a stage's epochs after which images have their full size."""
STEPS = 8
"""Sides are multiples of this part of the full one."""


def sides(recipe: Recipe, epochs: int) -> list[int]:
    """The side of the images in each of a stage's `epochs`: from `progressive` up to `image_size` in even steps."""
    assert recipe.image_size is not None
    if recipe.progressive is None:
        return [recipe.image_size] * epochs
    first, full = recipe.progressive, recipe.image_size
    step = max(1, full // STEPS)

    def side(progress: float) -> int:
        grown = first + progress / FULL * (full - first)
        return full if progress >= FULL else max(first, min(full, round(grown / step) * step))

    return [side(epoch / epochs) for epoch in range(epochs)]


def share_of_pixels(recipe: Recipe, epochs: int) -> float:
    """The mean number of pixels of a stage's images, as a share of the full size's."""
    assert recipe.image_size is not None
    return sum(side**2 for side in sides(recipe, epochs)) / (epochs * recipe.image_size**2)


class Progressive(Callback):  # type: ignore[misc]
    """Shrinks every training batch to the side of its epoch, after augmentation, with antialiasing."""

    def __init__(self, wanted: Sequence[int]) -> None:
        super().__init__()
        self.wanted = wanted

    def before_batch(self) -> None:
        """Shrink what is about to be trained on."""
        x: Tensor = self.xb[0]
        side = self.wanted[min(self.epoch, len(self.wanted) - 1)] if self.training else x.shape[-1]
        if side < x.shape[-1]:
            plain = x.as_subclass(Tensor)
            small = functional.interpolate(
                plain, (side, side), mode="bilinear", antialias=True, align_corners=False
            )
            self.learn.xb = (small,)


def progressive(recipe: Recipe, network: Network, epochs: int) -> list[Callback]:
    """The callback of a stage. Raises RecipeError for a network that does not take smaller images."""
    if recipe.progressive is None:
        return []
    assert recipe.image_size is not None
    fits = True
    before = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, recipe.progressive, recipe.progressive, device=_device(network)))
    except (RuntimeError, AssertionError, ValueError):
        fits = False
    finally:
        network.train(before)
    if not fits:
        raise RecipeError(f"{recipe.arch} takes no images of {recipe.progressive} pixels; leave out progressive")
    return [Progressive(sides(recipe, epochs))]


def _device(network: Network) -> torch.device:
    return next(network.parameters()).device
