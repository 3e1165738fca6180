"""Predicting: views, batches, memory that runs out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.digit_loaders import MEAN, STD, digit_loaders
from helpers.recipes import speednet_recipe
from torch import Tensor, nn

from ensemble.inference.forward import normalised, predict, views
from ensemble.models.network import build_network


@pytest.mark.parametrize("name", views.names())
def test_views_have_the_shape_of_the_image_and_begin_with_it(name: str) -> None:
    x = torch.rand(2, 3, 32, 32)
    result = [view(x) for view in views.get(name)]
    assert all(item.shape == x.shape for item in result)
    assert torch.equal(result[0], x)
    assert len({item.numpy().tobytes() for item in result}) == len(result)


@pytest.mark.parametrize(
    ("name", "turn"),
    [
        ("dihedral", lambda x: x.rot90(1, (-2, -1))),
        ("dihedral", lambda x: x.flip(-2)),
        ("flips", lambda x: x.flip(-2)),
    ],
)
def test_views_of_a_turned_image_are_the_same(name: str, turn: Callable[[Tensor], Tensor]) -> None:
    x = torch.rand(1, 3, 8, 8)
    before = {view(x).contiguous().numpy().tobytes() for view in views.get(name)}
    assert before == {view(turn(x)).contiguous().numpy().tobytes() for view in views.get(name)}


def test_six_views_are_small_moves_and_mirrors() -> None:
    x = torch.rand(2, 3, 8, 8)
    result = [view(x) for view in views.get("flip-shift")]
    assert len(result) == 6
    assert torch.equal(result[0], x) and torch.equal(result[1], x.flip(-1))
    up, mirrored_up, down, mirrored_down = result[2:]
    assert torch.equal(up[..., :-1, :-1], x[..., 1:, 1:]) and torch.equal(down[..., 1:, 1:], x[..., :-1, :-1])
    assert torch.equal(mirrored_up, up.flip(-1)) and torch.equal(mirrored_down, down.flip(-1))
    assert torch.equal(up[..., -1, :-1], x[..., -2, 1:])  # reflected at the border
    assert all(view.shape == x.shape for view in result)


@pytest.mark.slow
def test_predictions_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    _, images = digit_loaders(tmp_path)
    torch.manual_seed(0)
    network = build_network(speednet_recipe(), 10)
    rows = np.arange(30)
    whole, parts = (
        predict(network, images.batch, rows, mean=MEAN, std=STD, tta="flip-shift", batch_size=size)[0]
        for size in (30, 7)
    )
    np.testing.assert_allclose(whole, parts, atol=1e-6)
    alone = network.eval()(normalised(images.batch(rows), MEAN, STD)).softmax(1)
    plain, first = predict(network, images.batch, rows, mean=MEAN, std=STD)
    np.testing.assert_allclose(plain, alone.detach().numpy(), atol=1e-5)
    np.testing.assert_array_equal(plain, first)


@pytest.mark.slow
def test_predicting_halves_a_batch_that_does_not_fit(tmp_path: Path) -> None:
    _, images = digit_loaders(tmp_path)
    torch.manual_seed(0)
    network = build_network(speednet_recipe(), 10)
    rows = np.arange(50)
    expected, _ = predict(network, images.batch, rows, mean=MEAN, std=STD)

    def refuse(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if len(inputs[0]) > 9:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    network.register_forward_pre_hook(refuse)
    again, _ = predict(network, images.batch, rows, mean=MEAN, std=STD)
    np.testing.assert_allclose(again, expected, atol=1e-6)
