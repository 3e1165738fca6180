"""Networks for tests: norms with the statistics of long training, and one whose convolution is used twice."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def trained_for_long(network: nn.Module) -> None:
    """Give every batch norm statistics and weights of many sizes and both signs."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-9  # its share is another in a batch's own variance, of images that mean nothing
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(-2, 2).exp_()
            module.weight.uniform_(0.5, 1.5).mul_(torch.randn(module.num_features).sign())
            module.bias.normal_(std=0.1)


class UsedTwice(nn.Module):
    """The convolution's output goes to the norm, and past it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)
        trained_for_long(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 3, h, w)."""
        x = self.convolution(x)
        normed: Tensor = self.norm(x)
        return normed + x
