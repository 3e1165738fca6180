"""Backbones: networks split into body and head; torchvision's networks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torchvision
from torch import Tensor, nn

from ensemble.recipe.schema import ResolvedRecipe

Shape = tuple[int, ...]
State = Mapping[str, Tensor]


def _unchanged(whole: nn.Module, state: State) -> State:
    return state


def _whole(whole: nn.Module, size: int) -> nn.Module:
    return whole


@dataclass(frozen=True)
class BackboneSpec:
    """A network before its head is replaced.

    whole: the network as its library builds it, so that the names of pretrained weights fit.
    cut: (whole, image size) -> the body, float32 (n, 3, size, size) -> (n, c, h, w) or pooled (n, c).
    head_names: the first components of the names that belong to the head, which is replaced.
    rename: (whole, state) -> the state under this version's names, for older files with other names.
    head: (shape of one image's features, classes) -> the network's own head; None for the common one.
    """

    whole: nn.Module
    cut: Callable[[nn.Module, int], nn.Module] = _whole
    head_names: tuple[str, ...] = ()
    rename: Callable[[nn.Module, State], State] = _unchanged
    head: Callable[[Shape, int], nn.Module] | None = None


_POOLS = (("maxpool",), ("features", "pool0"))


def shrink_stem(whole: nn.Module) -> None:
    """Set the stride of the first convolution to 1 and remove the first pooling; shapes of weights stay the same.

    For the ResNet, DenseNet and EfficientNet families of torchvision and timm, which share these names.
    """
    convolution = next(module for module in whole.modules() if isinstance(module, nn.Conv2d))
    convolution.stride = (1, 1)
    for *path, name in _POOLS:
        parent: nn.Module | None = whole
        for child in path:
            parent = getattr(parent, child, None)
        if parent is not None and hasattr(parent, name):
            setattr(parent, name, _without_stride(getattr(parent, name)))


def _without_stride(pool: nn.Module) -> nn.Module:
    """The identity for a plain pooling; one with weights (a strided convolution) keeps them at stride 1."""
    if not any(True for _ in pool.parameters()):
        return nn.Identity()
    for module in pool.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
    return pool


_HEADS = ("avgpool", "dropout", "fc", "classifier", "AuxLogits")
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


def torchvision_backbone(recipe: ResolvedRecipe) -> BackboneSpec:
    """torchvision's network `recipe.arch` with random weights."""
    options, name = {}, recipe.arch
    if name == "inception_v3":
        options = {"transform_input": False, "aux_logits": False, "init_weights": True}
    whole = torchvision.models.get_model(name, weights=None, **options)
    return BackboneSpec(whole, _cut, _HEADS, _renamed)


def _cut(whole: nn.Module, size: int) -> nn.Module:
    """The layers before the classifier; DenseNet's last ReLU, a function in torchvision, becomes a layer."""
    features = getattr(whole, "features", None)
    if isinstance(features, nn.Module):
        is_densenet = isinstance(whole, torchvision.models.DenseNet)
        return nn.Sequential(features, nn.ReLU(inplace=True)) if is_densenet else features
    body = nn.Sequential()
    for child, module in whole.named_children():
        if child not in _HEADS:
            body.add_module(child, module)
    return body


def _renamed(whole: nn.Module, state: State) -> State:
    """Current names for DenseNet's files, which predate torch's ban on dots in names: norm.1 becomes norm1."""
    return {_OLD_DENSENET.sub(r"\1\2", name): value for name, value in state.items()}
