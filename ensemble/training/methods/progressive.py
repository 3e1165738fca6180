"""Progressive resizing: small images in the first epochs, full size in the last (Howard 2018; FFCV 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from fastai.callback.core import Callback
from torch import Tensor
from torch.nn import functional

from ensemble.core.errors import RecipeError
from ensemble.models.network import Network
from ensemble.recipe.schema import ResolvedRecipe

FULL = 0.75
"""Share of a stage's epochs after which images have their full size."""
STEPS = 8
"""Sides are multiples of the full side divided by this."""


def sides(recipe: ResolvedRecipe, epochs: int) -> list[int]:
    """Image side in each of a stage's `epochs`: from `progressive` to `image_size` in equal steps."""
    if recipe.progressive is None:
        return [recipe.image_size] * epochs
    smallest, full = recipe.progressive, recipe.image_size
    step = max(1, full // STEPS)

    def side(progress: float) -> int:
        target = smallest + progress / FULL * (full - smallest)
        return full if progress >= FULL else max(smallest, min(full, round(target / step) * step))

    return [side(epoch / epochs) for epoch in range(epochs)]


def share_of_pixels(recipe: ResolvedRecipe, epochs: int) -> float:
    """Mean number of pixels per image of a stage, as a share of that at full size."""
    return sum(side**2 for side in sides(recipe, epochs)) / (epochs * recipe.image_size**2)


class Progressive(Callback):  # type: ignore[misc]
    """Downscales every training batch to the side of its epoch, after augmentation, with antialiasing."""

    def __init__(self, epoch_sides: Sequence[int]) -> None:
        super().__init__()
        self.epoch_sides = epoch_sides

    def before_batch(self) -> None:
        """Downscale the images of a training batch."""
        x: Tensor = self.xb[0]
        side = self.epoch_sides[min(self.epoch, len(self.epoch_sides) - 1)] if self.training else x.shape[-1]
        if side < x.shape[-1]:
            plain = x.as_subclass(Tensor)
            small = functional.interpolate(
                plain, (side, side), mode="bilinear", antialias=True, align_corners=False
            )
            self.learn.xb = (small,)


def progressive(recipe: ResolvedRecipe, network: Network, epochs: int) -> list[Callback]:
    """The callback of a stage, if any. Raises RecipeError if the network does not accept the smallest images."""
    if recipe.progressive is None:
        return []
    accepted = True
    was_training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, recipe.progressive, recipe.progressive, device=_device(network)))
    except (RuntimeError, AssertionError, ValueError):
        accepted = False
    finally:
        network.train(was_training)
    if not accepted:
        raise RecipeError(f"{recipe.arch} takes no images of {recipe.progressive} pixels; leave out progressive")
    return [Progressive(sides(recipe, epochs))]


def _device(network: Network) -> torch.device:
    return next(network.parameters()).device
