"""Recipes of small networks."""

from __future__ import annotations

from typing import Any

from ensemble.recipe.data_spec import DataSpec
from ensemble.recipe.resolve import resolved
from ensemble.recipe.schema import Recipe


def small_recipe(**keys: Any) -> Recipe:
    base: dict[str, Any] = {"arch": "customnet", "weights": "none", "image_size": 16, "augment": "none"}
    return resolved(Recipe(data=DataSpec(), **(base | keys)))


def speednet_recipe(**keys: Any) -> Recipe:
    base: dict[str, Any] = {"arch": "speednet", "weights": "none", "image_size": 16, "augment": "none"}
    return resolved(Recipe(data=DataSpec(), **(base | keys)))


TRAIN, VALID, SIZE = 70, 21, 16


def cached_recipe(**keys: Any) -> Recipe:
    base: dict[str, Any] = {"arch": "resnet18", "weights": "a file", "image_size": SIZE, "augment": "none"}
    base |= {
        "batch_size": 16,
        "frozen_epochs": 3,
        "epochs": 1,
        "lr": 0.01,
        "cache_features": True,
        "head_fit": "steps",
    }
    return resolved(Recipe(data=DataSpec(), **(base | keys)))
