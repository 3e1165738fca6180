"""A head that trains on features which are computed once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.few_digits import Watched, few_digits
from helpers.recipes import SIZE, TRAIN, VALID, cached_recipe

from ensemble.data.image_cache import open_images
from ensemble.data.preprocess import Preprocess
from ensemble.inference.image_batches import CachedImages
from ensemble.models.network import Network, build_network
from ensemble.recipe.schema import Recipe
from ensemble.runs.history import Epoch
from ensemble.training.engine.checkpoint import seed_everything
from ensemble.training.engine.loaders import data_loaders
from ensemble.training.engine.loop import Training

pytestmark = pytest.mark.slow


def training(folder: Path, given: Recipe, watched: Watched, pieces: int = 1) -> Training:
    """A training that goes on from what is in `folder`."""
    data = few_digits(TRAIN, VALID)
    (squares,) = open_images(data, ["train", "valid"], [Preprocess(SIZE, "squash")], folder / "squares")
    seed_everything(0, "weights")
    network = build_network(given, 10)
    network.compute_dtype = torch.bfloat16 if given.precision == "bfloat16" else None
    seed_everything(0, "loaders")
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
    loaders = data_loaders(given, data, CachedImages(squares), mean, std, device=torch.device("cpu"))
    return Training(given, network, loaders, folder, {}, lambda *_: None, watched, pieces)


def trained(folder: Path, given: Recipe, pieces: int = 1) -> tuple[Network, list[Epoch], list[int]]:
    """The network, its history, and how many images its body was shown at a time."""
    result = training(folder, given, Watched(), pieces)
    shown: list[int] = []
    result.network[0].register_forward_pre_hook(lambda _, inputs: shown.append(len(inputs[0])))
    return result.network, result.run().rows, shown


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "weighted": {"sampler": "weighted"},
    "rarely validated": {"valid_every": 2},
    "finder": {"lr": "auto"},
    "bfloat16": {"precision": "bfloat16"},
}


@pytest.mark.parametrize("keys", CASES.values(), ids=CASES)
def test_cached_features_see_each_image_once(tmp_path: Path, keys: dict[str, Any]) -> None:
    network, rows, shown = trained(tmp_path / "cached", cached_recipe(epochs=0, **keys))
    other, others, others_shown = trained(tmp_path / "plain", cached_recipe(epochs=0, **keys, cache_features=False))
    assert sum(shown) == TRAIN + VALID
    assert sum(others_shown) > 2 * sum(shown)
    assert [row.epoch for row in rows] == [row.epoch for row in others] == [0, 1, 2]
    tolerance = 0.03 if "precision" in keys else 1e-3
    for row, plain in zip(rows, others, strict=True):
        assert row.lr == plain.lr
        assert row.train_loss == pytest.approx(plain.train_loss, rel=tolerance)
        assert (row.valid_loss or 0) == pytest.approx(plain.valid_loss or 0, rel=tolerance)
    for name, value in network[0].state_dict().items():
        assert torch.equal(value, other[0].state_dict()[name]), name  # frozen
    if "precision" not in keys:
        for name, value in network[1].state_dict().items():
            torch.testing.assert_close(value, other[1].state_dict()[name], rtol=1e-2, atol=1e-4)


def test_cached_features_end_with_the_head(tmp_path: Path) -> None:
    network, rows, shown = trained(tmp_path, cached_recipe(batch_size=10, fast_convolutions=False))
    assert [(row.stage, row.epoch) for row in rows] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert sum(shown) == 2 * (TRAIN + VALID)
    start = training(tmp_path / "start", cached_recipe(), Watched()).network
    assert not torch.equal(next(network.parameters()), next(start.parameters()))


def test_cached_features_are_computed_in_pieces(tmp_path: Path) -> None:
    _, rows, shown = trained(tmp_path, cached_recipe(epochs=0), pieces=4)
    assert len(rows) == 3
    assert sum(shown) == TRAIN + VALID
    # validation takes twice as many images at a time
    assert max(shown) == 8


@pytest.mark.parametrize("stop_at", [3, 9, 13, 18, 23, 25])
def test_cached_features_resume_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    monkeypatch.setattr(
        "ensemble.training.engine.checkpoint.CHECKPOINT_SHARE", 1e9
    )  # a checkpoint after every epoch
    whole, _, _ = trained(tmp_path / "whole", cached_recipe())
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path / "parts", cached_recipe(), Watched(stop_at)).run()
    parts, rows, _ = trained(tmp_path / "parts", cached_recipe())
    assert len(rows) == 4
    for name, value in parts.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name
