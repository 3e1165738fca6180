"""Files of weights and the networks that they fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ensemble.recipe.resolve import resolved
from ensemble.recipe.schema import Recipe

ARCH = "squeezenet1_1"  # the smallest file


def library_state(arch: str = ARCH) -> dict[str, Any]:
    from ensemble.recipe.architectures import lookup

    state: dict[str, Any] = lookup(arch).build(Recipe(arch=arch)).whole.state_dict()
    return state


def built_from(state: Any = None, arch: str = ARCH, **keys: Any) -> Any:
    from ensemble.models.network import build_network

    recipe = resolved(Recipe.model_validate({"arch": arch, "weights": "none", "image_size": 64, **keys}))
    return build_network(recipe, 4, state)


def write(path: Path, state: dict[str, Any]) -> Path:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)
    return path


def write_pth(path: Path, value: Any) -> Path:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path)
    return path


def located(arch: str = ARCH, weights: str = "imagenet") -> Any:
    from ensemble.models.weight_sources import locate_weights

    return locate_weights(arch, weights)
