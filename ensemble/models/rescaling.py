"""Pretrained filters in the scale at which they act, so that a learning rate means the same for each of them.

A batch norm multiplies each filter's output by a constant. In networks that were trained for long this constant is
50 and more for some filters and nearly 0 for others. An optimizer of the Adam family moves every weight by about
the learning rate, and so moves some filters fifty times as far as it seems to: with the norm's statistics kept,
such a network falls apart at rates that others train well with. Here the constant goes into the filter, and the
norm's statistics and weight follow: the network computes what it did before, in training and in evaluation mode
alike.
"""

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
def rescale_filters(network: nn.Module, size: int) -> int:
    """Give every filter the scale that the batch norm after it gives its output; how many convolutions that were.

    size: of images, in pixels, on which it is tried. 0, and the network as it was, where it computes something else
    afterwards: some use of a convolution's output cannot be seen from outside.
    """
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.linspace(-2, 2, 2 * 3 * size * size).sin().mul(2).view(2, 3, size, size)
    images = images.to(next(network.parameters()))
    with _evaluating(network):
        pairs, expected = _pairs(network, images)
        for convolution, norm in pairs:
            _rescale(convolution, norm)
        outputs = network(images)
    if torch.allclose(outputs, expected, rtol=CLOSE, atol=CLOSE * float(expected.abs().max())):
        return len(pairs)
    network.load_state_dict(before)
    return 0


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    training = network.training
    network.eval()
    yield
    network.train(training)


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


def _rescale(convolution: _ConvNd, norm: _BatchNorm) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    convolution.weight.mul_(scale.view(-1, *[1] * (convolution.weight.ndim - 1)))
    if convolution.bias is not None:
        convolution.bias.mul_(scale)
    norm.running_mean.mul_(scale)
    norm.running_var.mul_(scale.square())
    norm.weight.copy_(torch.sqrt(norm.running_var + norm.eps))
