"""Filters whose length means nothing, as a batch norm follows them."""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

MARK = "scale_free"


def mark_scale_free(network: nn.Module) -> None:
    """Mark the filters of convolutions that are followed, in the order of registration, by a batch norm of theirs.

    What stands between must not mind a positive factor either, as max-pools and ReLUs do not.
    """
    layers = [module for module in network.modules() if isinstance(module, (_ConvNd, _BatchNorm))]
    for before, after in pairwise(layers):
        if isinstance(before, _ConvNd) and isinstance(after, _BatchNorm) and _follows(before, after):
            setattr(before.weight, MARK, True)


def _follows(convolution: _ConvNd, norm: _BatchNorm) -> bool:
    return norm.num_features == convolution.out_channels


def is_scale_free(parameter: nn.Parameter) -> bool:
    """Whether `mark_scale_free` has marked it."""
    return bool(getattr(parameter, MARK, False))
