"""torchvision's networks, cut where their classifier begins."""

from __future__ import annotations

import re

import torchvision
from torch import nn

from ensemble.models.skeleton import Skeleton, State

_HEADS = ("avgpool", "dropout", "fc", "classifier", "AuxLogits")
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


def skeleton(name: str) -> Skeleton:
    """torchvision's network called `name` with random weights."""
    options = {}
    if name == "inception_v3":
        options = {"transform_input": False, "aux_logits": False, "init_weights": True}
    whole = torchvision.models.get_model(name, weights=None, **options)
    return Skeleton(whole, _cut, _HEADS, _renamed)


def _cut(whole: nn.Module, size: int) -> nn.Module:
    """The layers before the classifier; DenseNet's ReLU, a function in torchvision, becomes a layer."""
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
    """The names of DenseNet's files, which are older than torch's ban on dots: norm.1 is norm1."""
    return {_OLD_DENSENET.sub(r"\1\2", name): value for name, value in state.items()}
