"""The learner: callbacks as fastai has them, pieces of a batch, scaled losses, memory errors, compiled code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fastai.learner import Learner
from helpers.digit_loaders import digit_loaders
from helpers.recipes import speednet_recipe
from torch import Tensor, nn
from torch.nn import functional

from ensemble.models.network import build_network
from ensemble.training.engine.hardware import can_compile


@pytest.mark.slow
def test_batch_in_pieces_has_the_gradients_of_the_whole(tmp_path: Path) -> None:
    from ensemble.training.engine.learner import MemberLearner

    weights, losses = [], []
    for pieces in (1, 2, 8):
        dls, _ = digit_loaders(tmp_path, batch_size=25)
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
        learner = MemberLearner(dls, network, loss_func=nn.CrossEntropyLoss(label_smoothing=0.1), path=tmp_path)
        learner.pieces = pieces
        with learner.no_bar(), learner.no_logging():
            learner.fit(2, 1e-3)
        weights.append(network[1].weight.detach())
        losses.append(float(learner.recorder.losses[-1]))
    for weight, loss in zip(weights[1:], losses[1:], strict=True):
        torch.testing.assert_close(weight, weights[0], rtol=1e-4, atol=1e-6)
        assert loss == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.slow
def test_callbacks_are_called_as_by_fastai(tmp_path: Path) -> None:
    from fastai.callback.core import Callback

    from ensemble.training.engine.learner import MemberLearner

    def messages(kind: type[Learner]) -> list[str]:
        result: list[str] = []

        class Late(Callback):  # type: ignore[misc]
            order = 99

            def before_epoch(self) -> None:
                result.append("late before_epoch")
                self.run = self.epoch != 1  # at rest until the fit ends

            def after_batch(self) -> None:
                result.append("late after_batch")

            def after_epoch(self) -> None:
                result.append("late after_epoch")

        class All(Callback):  # type: ignore[misc]
            def __call__(self, event_name: str) -> None:
                result.append(f"all {event_name}")

        dls, _ = digit_loaders(tmp_path, batch_size=500)
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
        learner = kind(dls, network, loss_func=nn.CrossEntropyLoss(), path=tmp_path, cbs=[Late(), All()])
        given = Callback(before_batch=lambda self: result.append("given before_batch"))
        with learner.no_bar(), learner.no_logging():
            learner.fit(3, 1e-3)
            learner.fit(2, 1e-3, cbs=[given])
            learner.fit(1, 1e-3)
        return result

    expected = messages(Learner)
    assert {"late after_batch", "given before_batch", "all after_fit"} <= set(expected)
    assert messages(MemberLearner) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (
            RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            ),
            True,
        ),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_of_memory_are_recognised(error: BaseException, expected: bool) -> None:
    from ensemble.inference.forward import out_of_memory

    assert out_of_memory(error) is expected


@pytest.mark.slow
@pytest.mark.parametrize("pieces", [1, 3])
def test_scaled_loss_takes_the_same_steps(tmp_path: Path, pieces: int) -> None:
    from ensemble.training.engine.learner import MemberLearner

    def large(logits: Tensor, targets: Tensor) -> Tensor:
        return 1e4 * functional.cross_entropy(logits, targets)

    def trained(scaler: torch.amp.GradScaler | None) -> Tensor:
        dls, _ = digit_loaders(tmp_path, batch_size=60)
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
        learner = MemberLearner(dls, network, loss_func=large, path=tmp_path)
        learner.pieces, learner.scaler = pieces, scaler
        with learner.no_bar(), learner.no_logging():
            learner.fit(1, 1e-3)
        return network[1].weight.detach()

    plain = trained(None)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    torch.testing.assert_close(trained(scaler), plain, rtol=1e-4, atol=1e-6)
    assert scaler.get_scale() == 2.0**10
    huge = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-60)
    fewer = trained(huge)  # the first step or two overflow
    assert torch.isfinite(fewer).all() and not torch.equal(fewer, plain)
    assert (fewer - plain).abs().max() < 0.05 and huge.get_scale() < 2.0**127


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="no compiler of C++ here")
@pytest.mark.parametrize("keys", [{}, {"arch": "customnet", "filters": (8, 16)}], ids=["speednet", "customnet"])
def test_compiled_code_trains_the_same_and_is_compiled_once(
    keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._dynamo

    compiled_parts: list[Any] = []
    compile_ = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda part, **options: (compiled_parts.append(part), compile_(part, **options))[1]
    )
    states, x, y = [], torch.rand(16, 3, 16, 16), torch.randint(0, 10, (16,))
    for compiled in (False, True):
        torch._dynamo.reset()
        torch.manual_seed(0)
        network = build_network(speednet_recipe(dropout=0.0, **keys), 10)
        network.compiled = compiled
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        with torch._dynamo.config.patch(error_on_recompile=True):
            for _ in range(12):  # more than the versions of one function that torch keeps
                functional.cross_entropy(network.train()(x), y).backward()
                optimizer.step()
                optimizer.zero_grad()
        states.append(network.state_dict())
    assert len(compiled_parts) == 1
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-2, atol=1e-3)
