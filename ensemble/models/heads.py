"""The layers that replace a pretrained network's classifier: one linear layer, or fastai's head."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from ensemble.models.skeleton import Shape
from ensemble.recipe.schema import Recipe

DROPOUT = 0.5
"""fastai's, of a recipe that says none."""

M = TypeVar("M", bound=nn.Module)


def dropout_of(recipe: Recipe) -> float:
    """The dropout of a recipe's head, resolved or not."""
    return DROPOUT if recipe.dropout is None else recipe.dropout


def linear_head(shape: Shape, classes: int, *, dropout: float) -> nn.Module:
    """One linear layer after the mean over a map (c, h, w), or on a row (c,), with dropout before it.

    Returns a module (n, *shape) -> (n, classes), initialised as fastai does.
    """
    pool = [nn.AdaptiveAvgPool2d(1)] if len(shape) == 3 else []
    return initialised(nn.Sequential(*pool, nn.Flatten(), nn.Dropout(dropout), nn.Linear(shape[0], classes)))


def concat_head(shape: Shape, classes: int, *, hidden: tuple[int, ...] = (512,), dropout: float = 0.5) -> nn.Module:
    """fastai's head for features of one image: a map (c, h, w), pooled by mean and maximum, or a row (c,).

    Returns a module (n, *shape) -> (n, classes), initialised as fastai does.
    """
    from fastai.vision.learner import create_head

    is_map = len(shape) == 3
    head: nn.Module = create_head(
        shape[0], classes, lin_ftrs=list(hidden), ps=dropout, pool=is_map, concat_pool=is_map
    )
    return initialised(head)


def initialised(module: M) -> M:
    """`module` with Kaiming's random weights and zero biases in everything but its batch norms."""
    from fastai.torch_core import apply_init

    apply_init(module, nn.init.kaiming_normal_)
    return module
