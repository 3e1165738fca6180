"""Pretrained filters in the scale at which they act, so that a learning rate means the same for each of them.

A batch norm multiplies each filter's output by a constant. In networks that were trained for long this constant is
50 and more for some filters and nearly 0 for others. An optimizer of the Adam family moves every weight by about
the learning rate, and so moves some filters fifty times as far as it seems to: with the norm's statistics kept,
such a network falls apart at rates that others train well with. Here the constant goes into the filter, and the norm's
statistics and weight follow: the network computes what it did before, in training and in evaluation mode alike.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

CLOSE = 1e-3
"""How far outputs may move by rounding, as a share of the largest."""

Pair = tuple[_ConvNd, _BatchNorm]


def followed_by_norms(network: nn.Module) -> list[Pair]:
    """Convolutions and the batch norms that follow them, in the order of registration, with as many channels.

    What stands between must not mind a factor either.
    """
    layers = [module for module in network.modules() if isinstance(module, (_ConvNd, _BatchNorm))]
    return [
        (before, after)
        for before, after in pairwise(layers)
        if isinstance(before, _ConvNd)
        and isinstance(after, _BatchNorm)
        and after.num_features == before.out_channels
    ]


@torch.no_grad()
def rescale_filters(network: nn.Module, size: int) -> bool:
    """Give every filter the scale that the batch norm after it would give its output; whether that could be done.

    size: of images, in pixels, on which it is tried: a network that computes something else afterwards, as its
    layers are called in another order than they are registered, is left as it was.
    """
    before = {name: value.clone() for name, value in network.state_dict().items()}
    expected = _outputs(network, size)
    _rescale(network)
    if torch.allclose(_outputs(network, size), expected, rtol=CLOSE, atol=CLOSE * float(expected.abs().max())):
        return True
    network.load_state_dict(before)
    return False


def _outputs(network: nn.Module, size: int) -> Tensor:
    """What the network makes, in evaluation mode, of two images that are the same every time."""
    training = network.training
    images = torch.linspace(-2, 2, 2 * 3 * size * size).sin().mul(2).view(2, 3, size, size)
    outputs: Tensor = network.eval()(images)
    network.train(training)
    return outputs


def _rescale(network: nn.Module) -> None:
    for convolution, norm in followed_by_norms(network):
        if norm.running_mean is None or norm.running_var is None or not norm.affine:
            continue
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        convolution.weight.mul_(scale.view(-1, *[1] * (convolution.weight.ndim - 1)))
        if convolution.bias is not None:
            convolution.bias.mul_(scale)
        norm.running_mean.mul_(scale)
        norm.running_var.mul_(scale.square())
        norm.weight.copy_(torch.sqrt(norm.running_var + norm.eps))
