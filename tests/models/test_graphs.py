"""CUDA graphs: when they are captured, and that nothing else changes. On a GPU: gpu/test_training.py."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ensemble.models.graphs import Graphs

Captured = list[tuple[int, ...]]


class Generator:
    """A random generator, which a capture that fails must not leave as it is."""

    state = "in a capture"

    def clone_state(self) -> str:
        return "a clone of: " + self.state

    def graphsafe_set_state(self, state: str) -> None:
        self.state = state


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Captured:
    """The shapes for which graphs were captured, by a stand-in for a GPU that moves buffers and random states."""
    shapes: Captured = []

    def capture(network: nn.Module, samples: tuple[Tensor], **_: Any) -> Callable[[Tensor], Tensor]:
        shapes.append(tuple(samples[0].shape))
        torch.rand(3)
        network(samples[0] + 1)
        return network

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "device", lambda *_: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "default_generators", (Generator(),))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda *_: torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, *_: torch.set_rng_state(state))
    return shapes


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def test_graphs_are_captured_for_what_a_step_depends_on(captured: Captured) -> None:
    given = network()
    graphs = Graphs(given)
    x = torch.rand(8, 3)
    for _ in range(3):
        graphs(x, ())
    assert captured == [(8, 3)]
    changes: list[Callable[[], object]] = [
        lambda: given[0].requires_grad_(False),
        lambda: given[1].eval(),
        lambda: setattr(given[3].weight, "data", given[3].weight.data.clone()),
    ]
    for count, change in enumerate(changes, 2):
        change()
        graphs(x, ())
        graphs(x, ())
        assert len(captured) == count
    graphs(x, (True,))
    graphs(x[:4], (True,))
    with torch.autocast("cpu", torch.bfloat16):
        graphs(x[:4], (True,))
        graphs(x[:4], (True,))
    assert len(captured) == 7


def test_capturing_graphs_leaves_no_trace(captured: Captured) -> None:
    result = []
    for graphed in (False, True):
        torch.manual_seed(0)
        given = network()
        x = torch.rand(8, 3)
        run = Graphs(given) if graphed else lambda x, _, given=given: given(x)
        outputs = [run(x, ()).detach() for _ in range(2)]
        result.append([*outputs, *given.state_dict().values()])
    assert len(captured) == 1
    for first, other in zip(*result, strict=True):
        assert torch.equal(first, other)


def test_network_that_cannot_be_captured_runs_without_graphs(
    captured: Captured, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def refuse(*_: Any, **__: Any) -> None:
        tries.append(1)
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might be ...")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", refuse)
    given = network().requires_grad_(False)
    graphs = Graphs(given)
    x = torch.rand(8, 3)
    torch.manual_seed(0)
    result = graphs(x, ())
    graphs(x[:4], ())
    torch.manual_seed(0)
    assert torch.equal(result, given(x))
    assert len(tries) == 1
    assert torch.cuda.default_generators[0].state == "a clone of: in a capture"
    assert caplog.messages == [
        "training goes on without CUDA graphs: operation not permitted when stream is capturing"
    ]


def test_network_that_waits_for_the_gpu_is_not_captured(
    captured: Captured, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    modes: list[Any] = [0]
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    class Waits(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if modes[-1] == "error":
                raise RuntimeError("called a synchronizing CUDA operation")
            return x * float(x.detach().mean())

    given = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), Waits())
    before = {name: value.clone() for name, value in given.state_dict().items()}
    x = torch.rand(8, 3)
    graphs = Graphs(given)
    assert graphs(x, ()).requires_grad
    assert not captured
    assert modes[-1] == 0
    assert "without CUDA graphs: called a synchronizing CUDA operation" in caplog.text
    assert int(given[1].num_batches_tracked) == int(before["1.num_batches_tracked"]) + 1
