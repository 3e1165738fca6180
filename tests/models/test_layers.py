"""Layers: which are last, which filters a norm makes scale-free."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from helpers.recipes import small_recipe, speednet_recipe
from torch import nn

from ensemble.models.layers import is_scale_free, last_layers, last_parameters, layers
from ensemble.models.network import build_network

ARCHS = ["resnet18", "mobilenet_v2", "densenet121", "alexnet", "vgg16", "efficientnet_b0", "vit_tiny_patch16_224"]


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHS)
def test_last_layers_have_more_parameters(arch: str) -> None:
    size = 224 if arch.startswith("vit") else 64
    body, _ = build_network(small_recipe(arch=arch, image_size=size), 3).children()
    total = len(layers(body))
    chosen = [last_parameters(body, count) for count in (1, 2, 4, 6, 8, 10, total, total + 5)]
    counts = [sum(parameter.numel() for parameter in item) for item in chosen]
    assert counts[0] > 0
    wanted = [count for count in (1, 2, 4, 6, 8, 10) if count <= total]
    assert all(more > fewer for fewer, more in pairwise(counts[: len(wanted)]))
    assert all(small <= large for small, large in pairwise(chosen))
    assert chosen[-1] == chosen[-2] == set(body.parameters())
    for count in (1, 4, 10):
        mine = last_parameters(body, count)
        assert all(module.weight in mine for _, module in last_layers(body, count))
        others = [module.weight for _, module in layers(body)[: -min(count, total)]]
        assert not any(weight in mine for weight in others) or total <= count


def test_batch_norm_belongs_to_the_layer_before_it() -> None:
    body = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1))
    assert last_parameters(body, 1) == set(body[3].parameters())
    two = set(body[1].parameters()) | set(body[2].parameters()) | set(body[3].parameters())
    assert last_parameters(nn.Sequential(nn.Conv2d(3, 3, 1), *body), 2) == two
    assert last_parameters(body, 2) == set(body.parameters())


@pytest.mark.slow
def test_scale_free_filters_are_marked() -> None:
    torch.manual_seed(0)
    network = build_network(speednet_recipe(filters=(8, 16)), 3, None)
    marked = [name for name, parameter in network.named_parameters() if is_scale_free(parameter)]
    assert marked == [name for name, parameter in network.named_parameters() if parameter.ndim == 4]
    vgg = build_network(speednet_recipe(arch="alexnet", image_size=64), 3, None)
    assert not any(is_scale_free(parameter) for parameter in vgg.parameters())
    # what a mark says: any positive length gives the same training loss
    x = torch.rand(6, 3, 16, 16)
    first = network(x)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name in marked:
                parameter.mul_(3.0)
    torch.testing.assert_close(network(x), first, atol=1e-4, rtol=1e-3)
