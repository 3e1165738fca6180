"""A network with filters that a norm follows, and steps of an optimizer on it."""

from __future__ import annotations

from torch import Tensor, nn

from ensemble.models.layers import mark_scale_free


class Normed(nn.Module):
    """A filter that a batch norm follows, one that none follows, one for each channel, and a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 3, groups=8, bias=False),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 4),
        )
        mark_scale_free(self)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits
