"""Our own two networks, for small images and for learning from scratch."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from ensemble.errors import RecipeError
from ensemble.models.heads import concat_head, dropout_of, initialised
from ensemble.models.skeleton import Shape, Skeleton
from ensemble.recipe.schema import Recipe

PLAIN_FILTERS, PLAIN_DENSE = (32, 64, 128, 256, 256), (256,)
DEEP_FILTERS = (32, 64, 128, 256)


def plain(recipe: Recipe) -> Skeleton:
    """`filters` convolutions (five), each with ReLU and max-pool, then `dense` layers with dropout.

    batch_norm: a batch norm after each convolution.  kernel: odd, 3 unless given. Raises RecipeError.
    """
    filters = recipe.filters or PLAIN_FILTERS
    _refuse(recipe, filters, smallest=2 ** len(filters))
    body = nn.Sequential()
    for before, after in pairwise((3, *filters)):
        layers = [
            _conv(before, after, recipe.kernel or 3, bias=not recipe.batch_norm),
            *([nn.BatchNorm2d(after)] if recipe.batch_norm else []),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        ]
        body.extend(layers)
    dense = PLAIN_DENSE if recipe.dense is None else recipe.dense
    return Skeleton(initialised(body), head=partial(_dense_head, dense, dropout_of(recipe)))


def _dense_head(dense: tuple[int, ...], dropout: float, shape: Shape, classes: int) -> nn.Module:
    head = nn.Sequential(nn.Flatten())
    widths = (prod(shape), *dense)
    for before, after in pairwise(widths):
        head.extend([nn.Linear(before, after), nn.ReLU(inplace=True), nn.Dropout(dropout)])
    head.append(nn.Linear(widths[-1], classes))
    return initialised(head)


def deep(recipe: Recipe) -> Skeleton:
    """A convolution of filters[0], then a block of two convolutions and a pooling for each further filter.

    The pooling comes right after a block's first convolution, so that only that one works at full size:
    at 32 pixels the default costs 0.09 billion multiplications an image. Raises RecipeError.
    """
    filters = recipe.filters or DEEP_FILTERS
    _refuse(recipe, filters, smallest=2 ** (len(filters) - 1))
    kernel = recipe.kernel or 3
    body = nn.Sequential(_conv(3, filters[0], kernel), nn.BatchNorm2d(filters[0]), nn.ReLU(inplace=True))
    body.extend([Block(before, after, kernel) for before, after in pairwise(filters)])
    head = partial(concat_head, hidden=recipe.dense or (), dropout=dropout_of(recipe))
    return Skeleton(initialised(body), head=head)


class Block(nn.Module):
    """float (n, before, h, w) -> (n, after, h/2, w/2): a convolution that pools, then a residual one."""

    def __init__(self, before: int, after: int, kernel: int) -> None:
        super().__init__()
        self.widen = nn.Sequential(
            _conv(before, after, kernel), nn.MaxPool2d(2), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
        )
        self.refine = nn.Sequential(_conv(after, after, kernel), nn.BatchNorm2d(after), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        x = self.widen(x)
        refined: Tensor = x + self.refine(x)
        return refined


def _conv(before: int, after: int, kernel: int, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=bias)


def _refuse(recipe: Recipe, filters: tuple[int, ...], smallest: int) -> None:
    """Raise RecipeError for filters, a kernel or an image size that cannot be built."""
    if len(filters) < 2:
        raise RecipeError(f"{recipe.arch}: {len(filters)} filters found, two or more expected")
    if recipe.kernel is not None and recipe.kernel % 2 == 0:
        raise RecipeError(f"{recipe.arch}: kernel {recipe.kernel} found, an odd number expected")
    if recipe.image_size is not None and recipe.image_size < smallest:
        raise RecipeError(
            f"{recipe.arch} with {len(filters)} filters takes images of {smallest} pixels or more,"
            f" image_size {recipe.image_size} found; set image_size to {smallest} or more"
        )
