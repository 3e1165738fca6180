"""The small stem: the first stride and the first pooling turned off, for images of about 32 pixels."""

from __future__ import annotations

from torch import nn

_POOLS = (("maxpool",), ("features", "pool0"))


def shrink_stem(whole: nn.Module) -> None:
    """Give the first convolution stride 1 and take the first pooling out; the shapes of weights stay.

    For the ResNet, DenseNet and EfficientNet families of torchvision and timm, which share these names.
    """
    first = next(module for module in whole.modules() if isinstance(module, nn.Conv2d))
    first.stride = (1, 1)
    for *path, name in _POOLS:
        parent: nn.Module | None = whole
        for part in path:
            parent = getattr(parent, part, None)
        if parent is not None and hasattr(parent, name):
            setattr(parent, name, _without_stride(getattr(parent, name)))


def _without_stride(pool: nn.Module) -> nn.Module:
    """A plain pooling goes; one with weights of its own (a strided convolution) keeps them at stride 1."""
    if not any(True for _ in pool.parameters()):
        return nn.Identity()
    for module in pool.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
    return pool
