"""The names of an EfficientNet's tensors in the EfficientNet-PyTorch repository, as timm calls them."""

from __future__ import annotations

import re
from itertools import chain
from typing import Any

from torch import nn

from ensemble.models.skeleton import State

_OUTER = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PLAIN = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
"""A block whose channels are not expanded has no first convolution."""


def translated(model: nn.Module, state: State) -> State:
    """`state` under timm's names for `model`; as it is where its names are others or its blocks do not fit."""
    if "_conv_stem.weight" not in state:
        return state
    any_model: Any = model
    stages = getattr(any_model, "blocks", ())
    # there the blocks are counted through, here from the beginning of each stage
    places = list(chain.from_iterable([(s, b) for b in range(len(stage))] for s, stage in enumerate(stages)))
    expanding = {int(name.split(".")[1]) for name in state if re.match(r"_blocks\.\d+\._expand_conv\.", name)}
    return {_translated(name, places, expanding): value for name, value in state.items()}


def _translated(name: str, places: list[tuple[int, int]], expanding: set[int]) -> str:
    found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if found is None:
        layer, _, tensor = name.partition(".")
        return f"{_OUTER.get(layer, layer)}.{tensor}"
    block, layer, tensor = int(found[1]), found[2], found[3]
    names = _EXPANDING if block in expanding else _PLAIN
    if block >= len(places) or layer not in names:
        return name
    return "blocks.{}.{}.{}.{}".format(*places[block], names[layer], tensor)
