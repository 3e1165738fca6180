"""The speed probe: number formats, speeds, whether compiling pays."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from helpers.recipes import speednet_recipe

from ensemble.models.network import build_network


@pytest.mark.slow
def test_probe_changes_nothing_and_is_cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble.training.engine.hardware import apply_format
    from ensemble.training.jobs import speed_probe, timing

    cpu = torch.device("cpu")
    monkeypatch.setattr(timing, "MIN_CPU_SHARE", 0.0)
    torch.manual_seed(0)
    network = build_network(speednet_recipe(), 10)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    chosen = speed_probe.choose_format(speednet_recipe(), network, cpu)
    assert chosen.why.startswith("training images a second: float32 default ")
    assert chosen.speed and chosen.speed > 0
    apply_format(network, chosen)
    speed = speed_probe.measure_speed(speednet_recipe(), network, cpu, chosen)
    assert min(speed.head, speed.all, speed.valid, speed.predict) > 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    monkeypatch.setattr(speed_probe, "rate", None)
    assert speed_probe.choose_format(speednet_recipe(), network, cpu) == chosen
    assert speed_probe.measure_speed(speednet_recipe(), network, cpu, chosen) == speed
    for path in cache.rglob("*.json"):
        path.write_text("{")
    with pytest.raises(TypeError):
        speed_probe.choose_format(speednet_recipe(), network, cpu)


@pytest.mark.slow
def test_disturbed_probe_is_repeated_and_the_format_stays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble.training.engine.hardware import ComputeFormat
    from ensemble.training.jobs import speed_probe, timing

    cpu, network = torch.device("cpu"), build_network(speednet_recipe(), 10)
    rates = iter([20.0, 10.0, *range(1, 9)])
    monkeypatch.setattr(speed_probe, "rate", lambda *_, **__: next(rates))
    monkeypatch.setattr(
        speed_probe, "pairs", lambda *_: [("float32", layout) for layout in ("default", "channels_last")]
    )
    monkeypatch.setattr(timing, "MIN_CPU_SHARE", math.inf)  # no processors give so much
    chosen = speed_probe.choose_format(speednet_recipe(), network, cpu)
    assert chosen.layout == "default"
    assert chosen.speed is None
    assert speed_probe.choose_format(speednet_recipe(), network, cpu) == chosen
    first = speed_probe.measure_speed(speednet_recipe(), network, cpu, chosen)
    assert speed_probe.measure_speed(speednet_recipe(), network, cpu, chosen) != first
    monkeypatch.setattr(timing, "MIN_CPU_SHARE", 0.0)
    rates = iter([100.0, 200.0, 300.0, 400.0])
    alone = speed_probe.measure_speed(speednet_recipe(), network, cpu, chosen)
    assert (
        speed_probe.measure_speed(speednet_recipe(), network, cpu, chosen)
        == alone
        == speed_probe.Speed(300.0, 100.0, 200.0, 400.0)
    )
    assert ComputeFormat.read(chosen.facts()) == chosen


def test_probe_takes_fewer_bits_where_clearly_faster() -> None:
    from ensemble.training.jobs.speed_probe import best_pair

    exact, last = ("float32", "default"), ("float32", "channels_last")
    brain, half = ("bfloat16", "channels_last"), ("float16", "channels_last")
    assert best_pair({exact: 10.0, last: 10.1}) == last
    assert best_pair({exact: 100.0, last: 90.0, brain: 104.0}) == exact
    assert best_pair({exact: 100.0, last: 90.0, brain: 106.0}) == brain
    assert best_pair({exact: 100.0, last: 90.0, brain: 150.0, half: 155.0}) == brain
    assert best_pair({exact: 100.0, last: 90.0, brain: 150.0, half: 160.0}) == half


@pytest.mark.slow
def test_compiling_pays_for_long_trainings(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble.training.jobs import speed_probe

    cpu, network = torch.device("cpu"), build_network(speednet_recipe(), 10)
    assert speed_probe.compiling_pays(speednet_recipe(), network, cpu, 1700.0) == (False, "")
    monkeypatch.setattr(speed_probe, "can_compile", lambda device: True)
    monkeypatch.setattr(speed_probe, "cached", lambda *_: {"making": 100.0, "gain": 1.2, "why": "figures"})
    assert speed_probe.compiling_pays(speednet_recipe(), network, cpu, 3600.0) == (True, "figures")
    monkeypatch.setattr(speed_probe, "cached", lambda *_: {"making": 900.0, "gain": 1.2, "why": "figures"})
    assert speed_probe.compiling_pays(speednet_recipe(), network, cpu, 3600.0) == (False, "figures")


def test_compiling_is_not_tried_beside_fast_depthwise_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble.training.jobs import speed_probe

    monkeypatch.setattr(speed_probe, "can_compile", lambda device: True)
    monkeypatch.setattr(speed_probe, "cached", lambda *_: {"making": 1.0, "gain": 2.0, "why": "figures"})
    for keys, tried in (({}, False), ({"fast_convolutions": False}, True)):
        recipe = speednet_recipe(arch="mobilenet_v2", image_size=32, **keys)
        network = build_network(recipe, 10)
        assert speed_probe.compiling_pays(recipe, network, torch.device("cpu"), 3600.0) == (
            tried,
            "figures" * tried,
        )
