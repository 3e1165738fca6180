"""Pretrained filters in the scale at which they act, so that a learning rate means the same for each of them.

A batch norm multiplies each filter's output by a constant. In networks that were trained for long this constant is
50 and more for some filters and nearly 0 for others. An optimizer of the Adam family moves every weight by about
the learning rate, and so moves some filters fifty times as far as it seems to: with the norm's statistics kept,
such a network falls apart at rates that others train well with. Here the constant goes into the filter, and the
norm's statistics and weight follow: the network computes what it did before, in training and in evaluation mode
alike.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ensemble.models.pairs import computes_the_same, convolutions_with_norms


@torch.no_grad()
def rescale_filters(network: nn.Module, size: int) -> int:
    """Give every filter the scale that the batch norm after it gives its output; how many convolutions that were.

    size: of images, in pixels, on which it is tried. 0, and the network as it was, where it computes something else
    afterwards: some use of a convolution's output cannot be seen from outside.
    """
    before = {name: value.clone() for name, value in network.state_dict().items()}
    pairs, images, expected = convolutions_with_norms(network, size)
    for convolution, norm in pairs:
        _rescale(convolution, norm)
    if computes_the_same(network, images, expected):
        return len(pairs)
    network.load_state_dict(before)
    return 0


def _rescale(convolution: _ConvNd, norm: _BatchNorm) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    convolution.weight.mul_(scale.view(-1, *[1] * (convolution.weight.ndim - 1)))
    if convolution.bias is not None:
        convolution.bias.mul_(scale)
    norm.running_mean.mul_(scale)
    norm.running_var.mul_(scale.square())
    norm.weight.copy_(torch.sqrt(norm.running_var + norm.eps))
