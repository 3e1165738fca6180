"""Progressive resizing."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from helpers.recipes import small_recipe
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ensemble.data.digits import digits_dataset
from ensemble.data.image_cache import open_images
from ensemble.data.preprocess import Preprocess
from ensemble.inference.image_batches import CachedImages
from ensemble.models.network import build_network
from ensemble.training.engine.checkpoint import seed_everything
from ensemble.training.engine.loaders import data_loaders
from ensemble.training.methods.progressive import progressive, share_of_pixels, sides


@given(st.integers(8, 64), st.integers(1, 200), st.integers(1, 40))
def test_progressive_sides_grow_to_the_full_size(first: int, more: int, epochs: int) -> None:
    size = first + more
    result = sides(small_recipe(image_size=size, progressive=first), epochs)
    assert len(result) == epochs
    assert all(small <= large for small, large in pairwise(result))
    assert first <= result[0] <= size
    assert all(side == size for epoch, side in enumerate(result) if epoch >= 0.75 * epochs)
    assert 0 < share_of_pixels(small_recipe(image_size=size, progressive=first), epochs) <= 1
    assert sides(small_recipe(image_size=size), epochs) == [size] * epochs


@pytest.mark.slow
def test_progressive_network_sees_the_sides_of_the_epochs(tmp_path: Path) -> None:
    from fastai.learner import Learner

    data = digits_dataset()
    (squares,) = open_images(data, ["train", "valid"], [Preprocess(16, "squash")], tmp_path)
    given_ = small_recipe(arch="speednet", batch_size=200, filters=(4, 8), progressive=8)
    mean = (0.5, 0.5, 0.5)
    seed_everything(0, "loaders")
    dls = data_loaders(given_, data, CachedImages(squares), mean, mean, device=torch.device("cpu"))
    network = build_network(given_, 10)
    seen: list[tuple[bool, int]] = []
    network.register_forward_pre_hook(lambda module, args: seen.append((module.training, args[0].shape[-1])))
    (callback,) = progressive(given_, network, 4)
    seen.clear()
    learner = Learner(dls, network, loss_func=nn.CrossEntropyLoss(), path=tmp_path, cbs=[callback])
    with learner.no_bar(), learner.no_logging():
        learner.fit(4, 1e-3)
    batches = len(dls.train)
    assert [side for training, side in seen if training] == [
        side for side in sides(given_, 4) for _ in range(batches)
    ]
    assert {side for training, side in seen if not training} == {16}
