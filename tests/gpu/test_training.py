"""Training on an NVIDIA GPU. Skipped where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.few_digits import Watched, few_digits
from torch import Tensor

from ensemble.models.network import Network, build_network
from ensemble.recipe.data_spec import DataSpec
from ensemble.recipe.resolve import resolved
from ensemble.recipe.schema import Recipe
from ensemble.runs.history import Epoch
from ensemble.training.engine.checkpoint import seed_everything
from ensemble.training.engine.hardware import ComputeFormat, apply_format
from ensemble.training.engine.loaders import data_loaders
from ensemble.training.engine.loop import Training
from ensemble.training.jobs.plan import TrainingContext

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]


GPU, SIZE = torch.device("cuda"), 32


TRAIN, VALID = 200, 60


MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)


def recipe(**keys: Any) -> Recipe:
    base: dict[str, Any] = {"arch": "resnet18", "weights": "a file", "image_size": SIZE, "augment": "standard"}
    base |= {"batch_size": 16, "frozen_epochs": 1, "epochs": 2, "lr": 0.001}
    return resolved(Recipe(data=DataSpec(), **(base | keys)))


def training(
    folder: Path, given: Recipe, chosen: ComputeFormat, watched: Watched | None = None, pieces: int = 1
) -> Training:
    data = few_digits(TRAIN, VALID)
    seed_everything(0, "weights")
    network = build_network(given, 10).to(GPU)
    apply_format(network, chosen)
    images = TrainingContext(data, GPU, folder / "squares").images(given, "train")
    seed_everything(0, "loaders")
    loaders = data_loaders(given, data, images, MEAN, STD, device=GPU)
    return Training(given, network, loaders, folder, {}, lambda *_: None, watched or Watched(), pieces)


def state(network: Network) -> dict[str, Tensor]:
    return {name: value.float().cpu() for name, value in network.state_dict().items()}


def distance(item: Network, other: Network) -> float:
    """The largest difference of two networks' entries, as a share of the tensor's length."""
    first, second = state(item), state(other)
    return max(float((first[name] - second[name]).norm() / (second[name].norm() + 1e-6)) for name in second)


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_steps_as_graphs_are_the_same_steps(tmp_path: Path, precision: str) -> None:
    given, result = recipe(), []
    for graphed in (False, True):
        chosen = ComputeFormat(precision, "channels_last", "", graphed=graphed)
        first = training(tmp_path / str(graphed), given, chosen)
        captured = []
        rows = first.run().rows if not graphed else _run_counting(first, captured)
        assert len(captured) == (2 if graphed else 0)  # the head's stage, then everything's
        result.append((first.network, rows))
    (plain, rows), (graphed, graphed_rows) = result
    assert distance(plain, graphed) < 1e-3
    for row, other in zip(rows, graphed_rows, strict=True):
        assert row.train_loss == pytest.approx(other.train_loss, rel=1e-3)
        assert row.train_accuracy == pytest.approx(other.train_accuracy, abs=0.02)


def _run_counting(item: Training, captured: list[int]) -> list[Epoch]:
    before = torch.cuda.make_graphed_callables

    def counting(*args: Any, **keys: Any) -> Any:
        captured.append(1)
        return before(*args, **keys)

    torch.cuda.make_graphed_callables = counting  # type: ignore[assignment]
    try:
        return item.run().rows
    finally:
        torch.cuda.make_graphed_callables = before


def test_resumed_run_has_the_same_bits(tmp_path: Path) -> None:
    given, chosen = (
        recipe(augment="flip-shift", dropout=0.5),
        ComputeFormat("bfloat16", "channels_last", "", graphed=True),
    )
    whole = training(tmp_path / "whole", given, chosen)
    whole.run()
    batches = len(whole.loaders.train) + len(whole.loaders.valid)
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path / "parts", given, chosen, Watched(stop_at=2 * batches + 4)).run()
    parts = training(tmp_path / "parts", given, chosen)
    parts.run()
    for name, value in state(whole.network).items():
        assert torch.equal(value, state(parts.network)[name]), name


def test_batches_in_pieces_use_no_graphs(tmp_path: Path) -> None:
    item = training(tmp_path, recipe(), ComputeFormat("float32", "channels_last", "", graphed=True), pieces=2)
    captured: list[int] = []
    rows = _run_counting(item, captured)
    assert not captured  # a graph's second step would write over the gradients of its first
    assert len(rows) == 3


def test_gpu_batches_are_those_of_a_processor(tmp_path: Path) -> None:
    given, data, result = recipe(augment="none", batch_size=50), few_digits(TRAIN, VALID), []
    for device in (torch.device("cpu"), GPU):
        images = TrainingContext(data, device, tmp_path).images(given, "train")
        seed_everything(0, "loaders")
        dls = data_loaders(given, data, images, MEAN, STD, device=device)
        result.append([(dls.train.batch_items, x.cpu(), y.cpu()) for x, y in dls.train])
    for (at, x, y), (other_at, other_x, other_y) in zip(*result, strict=True):
        np.testing.assert_array_equal(at, other_at)
        torch.testing.assert_close(x, other_x)
        assert torch.equal(y, other_y)


def test_loss_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    from ensemble.core.errors import TrainingFailed

    given = recipe(lr=99.0, optimizer="sgd", epochs=4)
    with pytest.raises(TrainingFailed, match="lower --lr"):
        training(tmp_path, given, ComputeFormat("float32", "channels_last", "", graphed=True)).run()


def test_training_batch_never_waits_for_the_gpu(tmp_path: Path) -> None:
    """Every wait leaves the GPU without work until the processor has caught up."""
    given = recipe(augment="none", epochs=1, frozen_epochs=0, weights="none", valid_every=1)
    item = training(tmp_path, given, ComputeFormat("bfloat16", "channels_last", "", graphed=True))
    watched = Watched()

    def batch() -> None:
        torch.cuda.set_sync_debug_mode("error" if 3 <= watched.batches < 10 else "default")
        watched.batches += 1

    item.watcher.batch = batch  # type: ignore[method-assign]
    try:
        item.run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert watched.batches > 10


def test_network_that_waits_for_the_gpu_trains_without_graphs(tmp_path: Path) -> None:
    class Waits(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * (1.0 if float(x.detach().mean()) < 1e9 else 0.0)

    item = training(tmp_path, recipe(dropout=0.5), ComputeFormat("bfloat16", "channels_last", "", graphed=True))
    item.network[1].insert(0, Waits())
    captured: list[int] = []
    assert len(_run_counting(item, captured)) == 3
    assert not captured
