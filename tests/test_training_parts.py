"""Laws of the parts of training: optimizer, augmentation, finder, stopping, seeds."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from fastai.optimizer import Adam
from torch import nn

from ensemble.runs.history import Epoch
from ensemble.training.engine.checkpoint import random_states, restore_random_states, seed_everything
from ensemble.training.engine.epochs import best_epoch, should_stop
from ensemble.training.engine.learner import group_rates
from ensemble.training.engine.lr_finder import DEFAULT_RATE, FALLBACK, VALLEY, knee_of, suggest_knee, suggest_valley
from ensemble.training.methods.optimizers import FusedAdam, _channels_last_views
from ensemble.training.methods.schedules import StageSettings, schedules
from ensemble.training.methods.transforms import flip_shift

pytestmark = pytest.mark.slow  # they import fastai, which takes seconds


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
    for one, other in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
        assert not torch.equal(one, torch.zeros_like(one))


def test_filters_with_channels_last_are_handed_on_contiguous_and_uncopied() -> None:
    last = [torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last) for _ in range(2)]
    mixed = [last[0].clone(), torch.randn(4, 3, 5, 5)]
    vectors = [torch.randn(4), torch.randn(4)]
    first, second = _channels_last_views([last[0], mixed[0], vectors[0]], [last[1], mixed[1], vectors[1]])
    for turned, given in ((first[0], last[0]), (second[0], last[1])):
        assert turned.is_contiguous() and turned.data_ptr() == given.data_ptr()
        assert torch.equal(turned, given.permute(0, 2, 3, 1))
    assert first[1] is mixed[0] and second[1] is mixed[1]  # one of the two lies otherwise: neither is turned
    assert first[2] is vectors[0] and second[2] is vectors[1]


def test_flip_shift_only_moves_and_mirrors() -> None:
    torch.manual_seed(0)
    x = torch.arange(2 * 3 * 9 * 9).float().view(2, 3, 9, 9)
    assert torch.equal(flip_shift(x, 0.0, 0), x)
    assert torch.equal(flip_shift(x, 1.0, 0), x.flip(-1))
    padded = nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")
    windows = [padded[:, :, i : i + 9, j : j + 9] for i in range(5) for j in range(5)]
    for _ in range(20):
        moved = flip_shift(x, 0.5, 2)
        for image in range(2):
            candidates = [w[image] for w in windows] + [w[image].flip(-1) for w in windows]
            assert any(torch.equal(moved[image], candidate) for candidate in candidates)


def test_the_finder_falls_back_on_a_curve_too_short_to_read() -> None:
    curve = suggest_valley([1e-7] * 12, [2.0] * 12)
    assert curve.suggestion == FALLBACK
    assert "usable steps" in curve.reason


def test_the_finder_suggests_inside_the_valley() -> None:
    rates = list(np.geomspace(1e-7, 10, VALLEY.steps))
    losses = [2.3 - 2 * np.exp(-((np.log10(rate) + 1.5) ** 2)) for rate in rates]
    assert 1e-5 < suggest_valley(rates, losses).suggestion < 3e-2


def test_the_knee_is_where_the_loss_begins_to_rise() -> None:
    noise = np.random.default_rng(0)
    rates = np.geomspace(1e-5, 1e-2, 50)
    for knee in (5e-5, 2e-4, 1e-3):
        for level in (0.02, 0.8, 4.0):
            losses = level + 0.5 * np.maximum(0, np.log(rates / knee)) + noise.normal(0, 0.1, 50)
            result = knee_of(list(rates), list(losses))
            assert result is not None and knee / 2 < result < knee * 2
            suggestion = suggest_knee(list(rates), list(losses)).suggestion
            assert suggestion == pytest.approx(min(result, (result * DEFAULT_RATE) ** 0.5))


def test_a_curve_that_says_nothing_gives_the_usual_rate() -> None:
    noise = np.random.default_rng(0)
    rates = list(np.geomspace(1e-5, 1e-2, 50))
    flat = suggest_knee(rates, list(noise.normal(1, 0.3, 50)))
    assert (flat.suggestion, flat.reason) == (
        DEFAULT_RATE,
        "the loss hardly depends on the rate; the usual rate instead",
    )
    assert "ran away" in suggest_knee(rates[:12], [1.0] * 12).reason
    assert suggest_knee(rates[:12], [1.0] * 12, default=0.1).suggestion == 0.1


def rows(*losses: float | None) -> list[Epoch]:
    return [Epoch(0, i, 1.0, loss, 0.5, 0.5, 1e-3, 1.0) for i, loss in enumerate(losses)]


def test_early_stopping_counts_epochs_since_the_best() -> None:
    assert best_epoch(rows(3, 1, 1, 2)) == 1
    assert not should_stop(rows(3, 1, 2), 2)
    assert should_stop(rows(3, 1, 2, 2), 2)
    assert not should_stop(rows(3, 1, 2, 2, 2), None)
    assert not should_stop([], 1)


def test_rates_differ_by_group_only_when_fine_tuning() -> None:
    assert group_rates(1e-2, 3, 0.01) == pytest.approx([1e-4, 1e-3, 1e-2])
    assert group_rates(1e-2, 3, 1.0) == pytest.approx([1e-2] * 3)


def test_one_cycle_rises_then_falls_to_almost_nothing() -> None:
    lr = schedules.get("one-cycle")(StageSettings(np.array([1.0])))["lr"]
    assert lr(0.0) == pytest.approx([1 / 25])
    assert lr(0.3) == pytest.approx([1.0])
    assert lr(1.0) == pytest.approx([1e-5])


def test_random_states_come_back() -> None:
    seed_everything(3, "a")
    loader = random.Random(1)
    states = random_states(loader)

    def draw() -> list[float]:
        return [random.random(), np.random.rand(), torch.rand(1).item(), loader.random()]  # noqa: NPY002

    first = draw()
    assert draw() != first
    restore_random_states(states, loader)
    assert draw() == first


def test_seeds_for_different_purposes_differ() -> None:
    draws = set()
    for salt in [("stage", 0), ("stage", 1), ("weights",)]:
        seed_everything(0, *salt)
        draws.add(torch.rand(1).item())
    assert len(draws) == 3
