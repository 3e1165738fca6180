"""torchvision's automatic policies, which choose an operation for each image."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import v2

from ensemble.training.augment.base import BatchTransform


class Automatic(BatchTransform):
    """A transform of single uint8 images, drawn anew for each image of the batch."""

    def __init__(self, operation: v2.Transform) -> None:
        super().__init__()
        self.operation = operation

    def changed(self, x: Tensor) -> Tensor:
        """float (n, c, h, w) between 0 and 1 to the same shape, in steps of 1/255."""
        pixels = (x * 255).round().to(torch.uint8)
        return torch.stack([self.operation(image) for image in pixels]).to(x.dtype) / 255
