"""Smooth colourful images as tensors."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional


def smooth_batch(n: int = 6, size: int = 32) -> Tensor:
    """Smooth colourful images, so that moves of a pixel change little and turns much."""
    torch.manual_seed(5)
    return functional.interpolate(torch.rand(n, 3, 5, 5), (size, size), mode="bicubic").clamp(0, 1)


def smooth_picture(size: tuple[int, int] = (96, 80)) -> Image.Image:
    x = smooth_batch(1, 128)[0].permute(1, 2, 0)
    return Image.fromarray((x * 255).byte().numpy()).resize(size)
