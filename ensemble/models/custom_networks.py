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
from ensemble.models.layers import concat_head, initialised
from ensemble.models.torchvision_backbones import BackboneSpec, Shape
from ensemble.recipe.schema import ResolvedRecipe

PLAIN_FILTERS, PLAIN_DENSE = (32, 64, 128, 256, 256), (256,)
DEEP_FILTERS = (32, 64, 128, 256)


def plain(recipe: ResolvedRecipe) -> BackboneSpec:
    """`filters` convolutions (five by default), each with ReLU and max-pool, then `dense` layers with dropout.

    batch_norm: a batch norm after each convolution.  kernel: odd, 3 by default. Raises RecipeError.
    """
    filters = recipe.filters or PLAIN_FILTERS
    _refuse(recipe, filters, smallest=2 ** len(filters))
    body = nn.Sequential()
    for in_channels, out_channels in pairwise((3, *filters)):
        layers = [
            _same_conv(in_channels, out_channels, recipe.kernel or 3, bias=not recipe.batch_norm),
            *([nn.BatchNorm2d(out_channels)] if recipe.batch_norm else []),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        ]
        body.extend(layers)
    dense = PLAIN_DENSE if recipe.dense is None else recipe.dense
    return BackboneSpec(initialised(body), head=partial(_dense_head, dense, recipe.dropout))


def _dense_head(dense: tuple[int, ...], dropout: float, shape: Shape, classes: int) -> nn.Module:
    head = nn.Sequential(nn.Flatten())
    widths = (prod(shape), *dense)
    for in_features, out_features in pairwise(widths):
        head.extend([nn.Linear(in_features, out_features), nn.ReLU(inplace=True), nn.Dropout(dropout)])
    head.append(nn.Linear(widths[-1], classes))
    return initialised(head)


def deep(recipe: ResolvedRecipe) -> BackboneSpec:
    """A convolution with filters[0], then a block of two convolutions and a pooling for each further entry.

    The pooling directly follows a block's first convolution, so that only this one runs at full resolution:
    at 32 pixels the default costs 0.09 billion multiplications per image. Raises RecipeError.
    """
    filters = recipe.filters or DEEP_FILTERS
    _refuse(recipe, filters, smallest=2 ** (len(filters) - 1))
    kernel = recipe.kernel or 3
    body = nn.Sequential(_same_conv(3, filters[0], kernel), nn.BatchNorm2d(filters[0]), nn.ReLU(inplace=True))
    body.extend([PoolBlock(in_channels, out_channels, kernel) for in_channels, out_channels in pairwise(filters)])
    head = partial(concat_head, hidden=recipe.dense or (), dropout=recipe.dropout)
    return BackboneSpec(initialised(body), head=head)


class PoolBlock(nn.Module):
    """float (n, in, h, w) -> (n, out, h/2, w/2): a convolution with max-pooling, then a residual convolution."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.widen = nn.Sequential(
            _same_conv(in_channels, out_channels, kernel),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )
        self.refine = nn.Sequential(
            _same_conv(out_channels, out_channels, kernel), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.widen(x)
        refined: Tensor = x + self.refine(x)
        return refined


def _same_conv(in_channels: int, out_channels: int, kernel: int, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=bias)


def _refuse(recipe: ResolvedRecipe, filters: tuple[int, ...], smallest: int) -> None:
    """Raise RecipeError for filters, a kernel or an image size that the network cannot be built with."""
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


def speednet(recipe: ResolvedRecipe) -> BackboneSpec:
    """A whitening layer, a block for each of `filters`, global max-pooling, a linear layer without bias.

    A block has `block_depth` convolutions, two by default.

    Raises RecipeError for an image size too small for that many halvings.
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
    """float (n, features) -> (n, classes) / 9, without a bias: avoids overconfidence in the first steps."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * SCALE


class Whitening(nn.Module):
    """float (n, 3, h, w) -> (n, 24, h - 1, w - 1): the patches of 2 x 2 pixels, decorrelated, with both signs.

    The filters are not trained: `fit` computes them, and they are saved with the weights. The shift is trained for
    100 batches; after that, no gradients have to be propagated to the largest feature maps.
    """

    weight: Tensor
    batches: Tensor
    shift_batches = 100
    learning = True

    def __init__(self) -> None:
        super().__init__()
        values = 3 * PATCH**2
        self.filters = 2 * values
        self.register_buffer("weight", torch.eye(values).repeat(2, 1).view(self.filters, 3, PATCH, PATCH))
        # not named bias: parameters of that name get the learning rate of biases
        self.shift = nn.Parameter(torch.zeros(self.filters))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor], eps: float = 5e-4) -> None:
        """Compute the filters from batches of normalised images, float (n, 3, h, w), by an eigendecomposition.

        eps: added to the eigenvalues, so that directions of little variance are not amplified.
        """
        size = 3 * PATCH**2
        total, count = torch.zeros(size, size, dtype=torch.float64), 0
        for images in batches:
            patches = functional.unfold(images.cpu().double(), PATCH).transpose(1, 2).reshape(-1, size)
            total += patches.T @ patches
            count += len(patches)
        values, vectors = torch.linalg.eigh(total / count)
        # the sign of an eigenvector is arbitrary: a positive largest entry gives the same filters on all machines
        largest = vectors.abs().argmax(dim=0)
        vectors = vectors * vectors[largest, torch.arange(len(values))].sign()
        filters = (vectors / (values + eps).sqrt()).T.flip(0).view(-1, 3, PATCH, PATCH)
        self.weight.copy_(torch.cat([filters, -filters]))

    def count(self) -> None:
        """Count a training batch. Not part of `forward`, whose compiled code is specialised on `learning`."""
        self.learning = int(self.batches) < self.shift_batches
        self.batches += 1

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.shift if self.learning else self.shift.detach())


class Block(nn.Module):
    """float (n, in, h, w) -> (n, out, h/2, w/2): `depth` convolutions, the first followed by a max-pool.

    With three or more, the output of the first is added to the output of the last (residual connection).
    """

    def __init__(self, in_channels: int, out_channels: int, depth: int) -> None:
        super().__init__()
        self.shortcut = depth > 2
        self.widen = nn.Sequential(_conv(in_channels, out_channels), nn.MaxPool2d(2), Norm(out_channels), nn.GELU())
        between = [
            layer
            for _ in range(depth - 2)
            for layer in (_conv(out_channels, out_channels), Norm(out_channels), nn.GELU())
        ]
        self.refine = nn.Sequential(*between, _conv(out_channels, out_channels), Norm(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        wide = self.widen(x)
        refined = self.refine(wide)
        return functional.gelu(refined + wide if self.shortcut else refined)


class Norm(nn.BatchNorm2d):
    """A batch norm with momentum 0.4 for its running statistics and a trainable bias, without a scale."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-12, momentum=0.4)
        del self.weight
        self.register_buffer("weight", torch.ones(channels), persistent=False)


def _conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """3 x 3; the first filters are initialised to the identity (Dirac), the others randomly."""
    layer = nn.Conv2d(in_channels, out_channels, 3, padding="same", bias=False)
    nn.init.dirac_(layer.weight.data[:in_channels])
    return layer
