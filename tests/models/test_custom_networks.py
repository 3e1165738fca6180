"""The package's own networks: customnet and speednet."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.recipes import speednet_recipe
from helpers.small_networks import built_network
from torch import nn
from torch.nn import functional

from ensemble.models.custom_networks import Block, Norm, Whitening
from ensemble.models.network import build_network, fit_to_images, parameter_groups

pytestmark = pytest.mark.slow


def test_customnet_follows_its_recipe() -> None:
    import torch

    network = built_network(
        arch="customnet",
        image_size=48,
        filters=(8, 12, 16),
        kernel=5,
        dense=(20, 10),
        batch_norm=True,
        dropout=0.25,
    )
    body, head = network.children()
    convolutions = [m for m in body.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [8, 12, 16]
    assert {m.kernel_size for m in convolutions} == {(5, 5)}
    assert [m.out_features for m in head.modules() if isinstance(m, torch.nn.Linear)] == [20, 10, 3]
    assert [m.p for m in head.modules() if isinstance(m, torch.nn.Dropout)] == [0.25, 0.25]
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in body.modules()) == 3
    assert sum(isinstance(m, torch.nn.MaxPool2d) for m in body.modules()) == 3


def test_customnet_is_five_convolutions_without_batch_norm_by_default() -> None:
    import torch

    body = built_network(arch="customnet", image_size=32)[0]
    kinds = [type(module).__name__ for module in body]
    assert kinds == ["Conv2d", "ReLU", "MaxPool2d"] * 5
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in body.modules()) == 0


def test_whitening_makes_patches_uncorrelated() -> None:
    torch.manual_seed(0)
    smooth = functional.avg_pool2d(torch.randn(200, 3, 18, 18), 3, 1)
    layer = Whitening()
    layer.fit(smooth.split(30), eps=0.0)
    out = functional.conv2d(smooth, layer.weight).transpose(0, 1).flatten(1).double()
    half = out[:12]
    torch.testing.assert_close(half @ half.T / half.shape[1], torch.eye(12, dtype=torch.double), atol=1e-3, rtol=0)
    torch.testing.assert_close(out[12:], -half)
    other = Whitening()
    other.fit([smooth.flip(0)], eps=0.0)
    torch.testing.assert_close(layer.weight, other.weight, atol=1e-3, rtol=1e-3)


def test_speednet_learns_all_but_whitening_and_norm_scales() -> None:
    torch.manual_seed(0)
    network = build_network(speednet_recipe(image_size=32), 10)
    fit_to_images(network, lambda: [torch.randn(20, 3, 32, 32)])
    names = [name for name, _ in network.named_parameters()]
    assert "0.0.shift" in names and "0.0.weight" not in names
    norms = [module for module in network.modules() if isinstance(module, Norm)]
    assert len(norms) == 6 and all(list(dict(norm.named_parameters())) == ["bias"] for norm in norms)
    assert sum(map(len, parameter_groups(network))) == len(names)
    widths = [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [64, 64, 256, 256, 256, 256]
    # the first filters hand their input on
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    x = torch.rand(1, 24, 6, 6)
    torch.testing.assert_close(first(x)[:, :24], x)
    for size in (9, 16, 32, 48):
        assert build_network(speednet_recipe(image_size=size), 7)(torch.rand(2, 3, size, size)).shape == (2, 7)


def test_deeper_speednet_block_adds_its_first_convolution() -> None:
    torch.manual_seed(0)
    block = Block(3, 8, 3).eval()
    assert sum(isinstance(m, nn.Conv2d) for m in block.modules()) == 3
    x = torch.rand(2, 3, 8, 8)
    wide = block.widen(x)
    nn.init.zeros_(block.refine[-2].weight)
    torch.testing.assert_close(block(x), functional.gelu(wide))
    network = build_network(speednet_recipe(block_depth=3), 10)
    assert sum(isinstance(m, Norm) for m in network.modules()) == 9


def test_speednet_reads_back_what_it_saved(tmp_path: Path) -> None:
    from ensemble.core.files import sha256_file
    from ensemble.models.state_dict import load_weights, save_weights

    torch.manual_seed(0)
    network = build_network(speednet_recipe(), 10)
    fit_to_images(network, lambda: [torch.rand(20, 3, 16, 16)])
    save_weights(tmp_path / "weights.safetensors", network)
    other = build_network(speednet_recipe(), 10)
    load_weights(other, tmp_path / "weights.safetensors", sha256_file(tmp_path / "weights.safetensors"))
    x = torch.rand(4, 3, 16, 16)
    assert torch.equal(network.eval()(x), other.eval()(x))
