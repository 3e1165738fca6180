"""Which convolution's output a batch norm takes in, as a network runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

CLOSE = 1e-3
"""How far outputs may move by rounding, as a share of the largest."""

Pair = tuple[_ConvNd, _BatchNorm]


@torch.no_grad()
def convolutions_with_norms(network: nn.Module, size: int) -> tuple[list[Pair], Tensor, Tensor]:
    """Each convolution whose output is what a batch norm takes in, with that norm.

    size: of images, in pixels, on which it is tried; these images, and what the network makes of them.
    """
    images = torch.linspace(-2, 2, 2 * 3 * size * size).sin().mul(2).view(2, 3, size, size)
    images = images.to(next(network.parameters()))
    with _evaluating(network):
        pairs, outputs = _pairs(network, images)
    return pairs, images, outputs


@torch.no_grad()
def computes_the_same(network: nn.Module, images: Tensor, expected: Tensor) -> bool:
    """Whether a network still makes of images what it did, up to rounding."""
    with _evaluating(network):
        outputs = network(images)
    return torch.allclose(outputs, expected, rtol=CLOSE, atol=CLOSE * float(expected.abs().max()))


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Each module is put back into the mode that it was in: a frozen norm evaluates while the others train."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    yield
    for module in training:
        module.training = True


def _pairs(network: nn.Module, images: Tensor) -> tuple[list[Pair], Tensor]:
    """Each convolution whose output is what a batch norm takes in, with that norm; and what the network makes."""
    made_by: dict[int, tuple[_ConvNd, Tensor]] = {}  # the tensors are kept, so that no other takes their place
    pairs: list[Pair] = []

    def made(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, _ConvNd)
        made_by[id(output)] = module, output

    def taken(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, _BatchNorm)
        if id(inputs[0]) in made_by and module.affine and module.running_var is not None:
            pairs.append((made_by[id(inputs[0])][0], module))

    hooks = [
        *(part.register_forward_hook(made) for part in network.modules() if isinstance(part, _ConvNd)),
        *(part.register_forward_pre_hook(taken) for part in network.modules() if isinstance(part, _BatchNorm)),
    ]
    outputs: Tensor = network(images)
    for hook in hooks:
        hook.remove()
    return pairs, outputs
