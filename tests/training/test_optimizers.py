"""Optimizers: fused Adam and SGD, Muon."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from fastai.optimizer import Adam
from helpers.normed_network import Normed
from torch import nn
from torch.nn import functional

from ensemble.models.layers import mark_scale_free
from ensemble.training.methods.optimizers import FusedAdam, FusedSGD, Muon, channels_last_views


def small_network(layout: torch.memory_format) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
    )
    return network.to(memory_format=layout)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_fused_adam_is_fastais_adam(layout: torch.memory_format) -> None:
    networks = [small_network(layout), small_network(layout)]
    optimizers = []
    for network, kind in zip(networks, (Adam, FusedAdam), strict=True):
        groups = [list(network[0].parameters()), list(network[1:].parameters())]
        optimizer = kind(groups, lr=1e-2)
        optimizer.set_hypers(wd=0.1)
        optimizer.state[network[1].weight]["do_wd"] = False
        optimizers.append(optimizer)
    for step in range(12):
        x, y = torch.randn(8, 3, 8, 8), torch.randint(0, 2, (8,))
        for network, optimizer in zip(networks, optimizers, strict=True):
            optimizer.set_hyper("lr", [1e-3 * (step + 1), 2e-3])
            optimizer.set_hyper("mom", 0.95 - 0.01 * step)
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    for first, other in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(first, other, rtol=1e-4, atol=1e-6)
        assert not torch.equal(first, torch.zeros_like(first))


def test_channels_last_filters_are_contiguous_views() -> None:
    last = [torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last) for _ in range(2)]
    mixed = [last[0].clone(), torch.randn(4, 3, 5, 5)]
    vectors = [torch.randn(4), torch.randn(4)]
    first, second = channels_last_views([last[0], mixed[0], vectors[0]], [last[1], mixed[1], vectors[1]])
    for turned, given in ((first[0], last[0]), (second[0], last[1])):
        assert turned.is_contiguous() and turned.data_ptr() == given.data_ptr()
        assert torch.equal(turned, given.permute(0, 2, 3, 1))
    assert first[1] is mixed[0] and second[1] is mixed[1]  # one of the two lies otherwise: neither is turned
    assert first[2] is vectors[0] and second[2] is vectors[1]


@pytest.mark.parametrize("momentum", [0.0, 0.85])
def test_fused_sgd_is_torchs_nesterov_with_fastais_decay(momentum: float) -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    optimizer = FusedSGD([list(ours.parameters())], lr=0.1, mom=momentum, bias_lr=8.0)
    optimizer.set_hypers(wd=0.02)
    optimizer.state[ours.bias]["do_wd"] = False
    reference = torch.optim.SGD(
        [{"params": [theirs.weight]}, {"params": [theirs.bias]}], lr=0.1, momentum=momentum, nesterov=momentum > 0
    )
    for step in range(6):
        rate = 0.1 / (step + 1)
        x, y = torch.randn(8, 3), torch.randint(0, 2, (8,))
        optimizer.set_hyper("lr", rate)
        reference.param_groups[0]["lr"], reference.param_groups[1]["lr"] = rate, 8 * rate
        for network, item in ((ours, optimizer), (theirs, reference)):
            functional.cross_entropy(network(x), y).backward()
            if item is reference:
                with torch.no_grad():
                    theirs.weight.mul_(1 - rate * 0.02)
            item.step()
            item.zero_grad()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def stepped(network: nn.Module, kind: type[FusedSGD], scale: float = 1.0, steps: int = 3, **keys: float) -> None:
    optimizer = kind([list(network.parameters())], lr=0.1, mom=0.85, bias_lr=8.0, **keys)
    optimizer.set_hypers(wd=0.01)
    torch.manual_seed(1)
    for _ in range(steps):
        x, y = torch.randn(8, 3, 12, 12), torch.randint(0, 4, (8,))
        (scale * functional.cross_entropy(network(x), y)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()


def test_muon_steps_scale_free_filters_and_sgd_the_rest() -> None:
    torch.manual_seed(0)
    ours = Normed()
    theirs = deepcopy(ours)
    stepped(ours, Muon, steps=1)
    stepped(theirs, FusedSGD, steps=1)
    pairs = list(zip(ours.named_parameters(), theirs.parameters(), strict=True))
    assert [name for (name, first), other in pairs if not torch.equal(first, other)] == ["layers.0.weight"]


def test_muon_step_is_nearly_orthogonal_and_keeps_the_length() -> None:
    torch.manual_seed(0)
    network = Normed()
    filters = network.layers[0].weight
    before = filters.detach().clone()
    optimizer = Muon([list(network.parameters())], lr=0.1, filter_lr=2.0)
    functional.cross_entropy(network(torch.randn(8, 3, 12, 12)), torch.randint(0, 4, (8,))).backward()  # type: ignore[no-untyped-call]
    left, _, right = torch.linalg.svd(filters.grad.flatten(1), full_matrices=False)  # type: ignore[union-attr]
    optimizer.step()
    unit = before * 8**0.5 / before.norm()
    step = (unit - filters.detach()).flatten(1) / 0.2
    along = left.T @ step @ right.T
    strengths = along.diagonal()
    # "S' ~ Uniform(0.5, 1.5)" after five iterations; after three the weakest directions are behind
    assert strengths.min() > 0.1 and strengths.max() < 1.4 and strengths.median() > 0.6
    assert (along - torch.diag(strengths)).abs().max() < 0.05


def test_muon_ignores_the_length_of_the_gradient() -> None:
    torch.manual_seed(0)
    small = Normed()
    large = deepcopy(small)
    for network in (small, large):  # marks are lost in a copy
        mark_scale_free(network)
    stepped(small, Muon, 1.0, steps=1)
    stepped(large, Muon, 1024.0, steps=1)
    torch.testing.assert_close(small.layers[0].weight, large.layers[0].weight)
