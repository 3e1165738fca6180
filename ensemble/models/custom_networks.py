"""The package's own networks for small images: customnet, customnet_deep and speednet."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from ensemble.core.errors import RecipeError
from ensemble.models.layers import concat_head, dropout_of, initialised
from ensemble.models.torchvision_backbones import BackboneSpec, Shape
from ensemble.recipe.schema import Recipe

PLAIN_FILTERS, PLAIN_DENSE = (32, 64, 128, 256, 256), (256,)
DEEP_FILTERS = (32, 64, 128, 256)


def plain(recipe: Recipe) -> BackboneSpec:
    """`filters` convolutions (five), each with ReLU and max-pool, then `dense` layers with dropout.

    batch_norm: a batch norm after each convolution.  kernel: odd, 3 unless given. Raises RecipeError.
    """
    filters = recipe.filters or PLAIN_FILTERS
    _refuse(recipe, filters, smallest=2 ** len(filters))
    body = nn.Sequential()
    for before, after in pairwise((3, *filters)):
        layers = [
            _same_conv(before, after, recipe.kernel or 3, bias=not recipe.batch_norm),
            *([nn.BatchNorm2d(after)] if recipe.batch_norm else []),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        ]
        body.extend(layers)
    dense = PLAIN_DENSE if recipe.dense is None else recipe.dense
    return BackboneSpec(initialised(body), head=partial(_dense_head, dense, dropout_of(recipe)))


def _dense_head(dense: tuple[int, ...], dropout: float, shape: Shape, classes: int) -> nn.Module:
    head = nn.Sequential(nn.Flatten())
    widths = (prod(shape), *dense)
    for before, after in pairwise(widths):
        head.extend([nn.Linear(before, after), nn.ReLU(inplace=True), nn.Dropout(dropout)])
    head.append(nn.Linear(widths[-1], classes))
    return initialised(head)


def deep(recipe: Recipe) -> BackboneSpec:
    """A convolution of filters[0], then a block of two convolutions and a pooling for each further filter.

    The pooling comes right after a block's first convolution, so that only that one works at full size:
    at 32 pixels the default costs 0.09 billion multiplications an image. Raises RecipeError.
    """
    filters = recipe.filters or DEEP_FILTERS
    _refuse(recipe, filters, smallest=2 ** (len(filters) - 1))
    kernel = recipe.kernel or 3
    body = nn.Sequential(_same_conv(3, filters[0], kernel), nn.BatchNorm2d(filters[0]), nn.ReLU(inplace=True))
    body.extend([PoolBlock(before, after, kernel) for before, after in pairwise(filters)])
    head = partial(concat_head, hidden=recipe.dense or (), dropout=dropout_of(recipe))
    return BackboneSpec(initialised(body), head=head)


class PoolBlock(nn.Module):
    """float (n, before, h, w) -> (n, after, h/2, w/2): a convolution that pools, then a residual one."""

    def __init__(self, before: int, after: int, kernel: int) -> None:
        super().__init__()
        self.widen = nn.Sequential(
            _same_conv(before, after, kernel), nn.MaxPool2d(2), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
        )
        self.refine = nn.Sequential(_same_conv(after, after, kernel), nn.BatchNorm2d(after), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        x = self.widen(x)
        refined: Tensor = x + self.refine(x)
        return refined


def _same_conv(before: int, after: int, kernel: int, bias: bool = False) -> nn.Conv2d:
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


FILTERS = (64, 256, 256)
DEPTH = 2
SCALE = 1 / 9
PATCH = 2


def speednet(recipe: Recipe) -> BackboneSpec:
    """A whitening layer, a block for each of `filters`, the maximum over places, a linear layer without bias.

    A block has `block_depth` convolutions, two unless given.

    Raises RecipeError for an image size too small to be halved that often.
    """
    filters = recipe.filters or FILTERS
    smallest = 2 ** len(filters) + 1
    if recipe.image_size is not None and recipe.image_size < smallest:
        raise RecipeError(
            f"speednet with {len(filters)} filters takes images of {smallest} pixels or more,"
            f" image_size {recipe.image_size} found; set image_size to {smallest} or more"
        )
    whitening = Whitening()
    widths = pairwise((whitening.filters, *filters))
    body = nn.Sequential(whitening, nn.GELU(), *[Block(*pair, recipe.block_depth or DEPTH) for pair in widths])
    body.append(nn.AdaptiveMaxPool2d(1))
    return BackboneSpec(body, head=_head)


def _head(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), Scaled(shape[0], classes))


class Scaled(nn.Linear):
    """float (n, features) -> (n, classes) / 9, without a bias: the first steps are then not too sure."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * SCALE


class Whitening(nn.Module):
    """float (n, 3, h, w) -> (n, 24, h - 1, w - 1): the patches of 2 x 2 pixels, decorrelated, with both signs.

    The filters do not learn: `fit` computes them, and they are saved with the weights. The shift does for 100
    batches; after that nothing need be sent back to the largest maps.
    """

    weight: Tensor
    batches: Tensor
    learns = 100
    learning = True

    def __init__(self) -> None:
        super().__init__()
        values = 3 * PATCH**2
        self.filters = 2 * values
        self.register_buffer("weight", torch.eye(values).repeat(2, 1).view(self.filters, 3, PATCH, PATCH))
        # not called a bias, which would have the rate of biases
        self.shift = nn.Parameter(torch.zeros(self.filters))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor], eps: float = 5e-4) -> None:
        """Compute the filters from batches of normalised images, float (n, 3, h, w), by an eigendecomposition.

        eps: added to the eigenvalues, so that what hardly varies is not blown up.
        """
        size = 3 * PATCH**2
        total, count = torch.zeros(size, size, dtype=torch.float64), 0
        for images in batches:
            patches = functional.unfold(images.cpu().double(), PATCH).transpose(1, 2).reshape(-1, size)
            total += patches.T @ patches
            count += len(patches)
        values, vectors = torch.linalg.eigh(total / count)
        # an eigenvector has no sign of its own: its largest entry is made positive, so that all machines agree
        largest = vectors.abs().argmax(dim=0)
        vectors = vectors * vectors[largest, torch.arange(len(values))].sign()
        filters = (vectors / (values + eps).sqrt()).T.flip(0).view(-1, 3, PATCH, PATCH)
        self.weight.copy_(torch.cat([filters, -filters]))

    def count(self) -> None:
        """One more batch of training begins. Outside of `forward`, whose code may be compiled for what it finds."""
        self.learning = int(self.batches) < self.learns
        self.batches += 1

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.shift if self.learning else self.shift.detach())


class Block(nn.Module):
    """float (n, before, h, w) -> (n, after, h/2, w/2): `depth` convolutions, the first followed by a max-pool.

    From three on, what the first gives is added to what the last gives.
    """

    def __init__(self, before: int, after: int, depth: int) -> None:
        super().__init__()
        self.shortcut = depth > 2
        self.widen = nn.Sequential(_conv(before, after), nn.MaxPool2d(2), Norm(after), nn.GELU())
        between = [layer for _ in range(depth - 2) for layer in (_conv(after, after), Norm(after), nn.GELU())]
        self.refine = nn.Sequential(*between, _conv(after, after), Norm(after))

    def forward(self, x: Tensor) -> Tensor:
        wide = self.widen(x)
        refined = self.refine(wide)
        return functional.gelu(refined + wide if self.shortcut else refined)


class Norm(nn.BatchNorm2d):
    """A batch norm that follows its statistics fast (0.4 of the newest) and learns a bias only."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-12, momentum=0.4)
        del self.weight
        self.register_buffer("weight", torch.ones(channels), persistent=False)


def _conv(before: int, after: int) -> nn.Conv2d:
    """3 x 3; the first filters hand their input on (dirac), the others are random."""
    layer = nn.Conv2d(before, after, 3, padding="same", bias=False)
    nn.init.dirac_(layer.weight.data[:before])
    return layer
