"""Losses by name. A loss is built from the recipe and compares logits (n, k) with targets (n,) or (n, k)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ensemble.recipe.schema import Recipe
from ensemble.registry import Registry

Loss = Callable[[Tensor, Tensor], Tensor]

losses: Registry[Callable[[Recipe], Loss]] = Registry("loss")


@losses.register("cross-entropy")
def cross_entropy(recipe: Recipe) -> Loss:
    """Softmax cross-entropy with `label_smoothing`; targets are class indices (n,) or probabilities (n, k)."""
    return nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
