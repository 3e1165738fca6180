"""Networks of any architecture with random weights, and images for them."""

from __future__ import annotations

from typing import Any

from ensemble.recipe.resolve import resolved
from ensemble.recipe.schema import Recipe


def built_network(n_classes: int = 3, state: Any = None, **keys: Any) -> Any:
    import torch

    from ensemble.models.network import build_network

    torch.manual_seed(keys.get("seed", 0))
    recipe = resolved(Recipe.model_validate({"weights": "none", "image_size": 224, **keys}))
    return build_network(recipe, n_classes, state)


def random_images(n: int, size: int) -> Any:
    import torch

    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))
