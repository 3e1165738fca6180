"""Samplers: balance of the classes, pruning."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.recipes import small_recipe
from hypothesis import given
from hypothesis import strategies as st

from ensemble.core.errors import DataError
from ensemble.data.digits import digits_dataset
from ensemble.data.image_cache import open_images
from ensemble.data.preprocess import Preprocess
from ensemble.inference.image_batches import CachedImages
from ensemble.training.engine.checkpoint import seed_everything
from ensemble.training.engine.loaders import BatchLoader, data_loaders
from ensemble.training.methods.samplers import OverSampler, Pruned, WeightedSampler, epoch_class_counts, sampler

LABELS = st.lists(st.integers(0, 3), min_size=4, max_size=60).map(lambda more: np.array([0, 1, 2, 3, *more]))


@given(LABELS, st.integers(1, 40), st.booleans(), st.integers(0, 99))
def test_oversampling_counts(labels: Any, count: int, cut: bool, seed: int) -> None:
    chosen = sampler(small_recipe(sampler="oversample", sampler_count=count, sampler_cut=cut), labels, 4)
    assert isinstance(chosen, OverSampler)
    drawn = np.array(chosen.draw(random.Random(seed)))
    before, after = np.bincount(labels, minlength=4), np.bincount(labels[drawn], minlength=4)
    assert after.tolist() == [count if cut else max(count, item) for item in before.tolist()]
    assert len(drawn) == chosen.count
    times = np.bincount(drawn, minlength=len(labels))
    for label in range(4):
        mine = times[labels == label]
        assert mine.max() - mine.min() <= 1
    assert drawn.tolist() == chosen.draw(random.Random(seed))


def test_oversampling_count_is_that_of_the_middle_class() -> None:
    labels = np.repeat([0, 1, 2], [3, 10, 50])
    assert epoch_class_counts(small_recipe(sampler="oversample"), labels, 3).tolist() == [10, 10, 50]
    assert epoch_class_counts(small_recipe(sampler="oversample", sampler_cut=True), labels, 3).tolist() == [
        10,
        10,
        10,
    ]
    assert epoch_class_counts(small_recipe(), labels, 3).tolist() == [3, 10, 50]
    assert epoch_class_counts(small_recipe(sampler="weighted"), labels, 3).tolist() == [21, 21, 21]


def test_weighted_sampler_draws_every_class_alike() -> None:
    labels = np.repeat([0, 1, 2], [3, 10, 987])
    drawn = WeightedSampler(labels, 3).draw(random.Random(0))
    assert len(drawn) == 1000
    assert np.bincount(labels[drawn]) == pytest.approx([1000 / 3] * 3, abs=60)


@given(st.lists(st.floats(0, 9, width=32), min_size=1, max_size=60), st.floats(0.1, 0.9), st.integers(0, 70))
def test_pruning_leaves_out_a_share_of_what_is_learnt_well(losses: list[float], share: float, least: int) -> None:
    rng, seen = random.Random(0), np.array(losses, np.float32)
    items = len(seen) + 5  # five are never seen
    pruned = Pruned(items, share)
    pruned.choose(rng, least=0)
    assert sorted(pruned.draw(rng)) == list(range(items))
    pruned.record(np.arange(len(seen)), seen)
    pruned.choose(rng, least=min(least, items))
    drawn = pruned.draw(rng)
    assert len(drawn) == len(set(drawn)) == pruned.count
    easy = set(np.flatnonzero(seen < seen.mean()).tolist())
    assert set(range(items)) - set(drawn) <= easy
    assert len(drawn) == max(items - len(easy) + round((1 - share) * len(easy)), min(least, items))


@pytest.mark.parametrize("name", ["weighted", "oversample"])
def test_sampler_refuses_a_class_without_items(name: str) -> None:
    with pytest.raises(DataError, match="1 classes have no training items"):
        sampler(small_recipe(sampler=name), np.array([0, 0, 2]), 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weighted", "oversample"])
def test_loader_follows_its_sampler_and_validates_on_everything(tmp_path: Path, name: str) -> None:
    data = digits_dataset()
    (squares,) = open_images(data, ["train", "valid"], [Preprocess(16, "squash")], tmp_path)
    seed_everything(0, "loaders")
    given_ = small_recipe(sampler=name, sampler_count=200 if name == "oversample" else None, batch_size=50)
    mean = (0.5, 0.5, 0.5)
    dls = data_loaders(given_, data, CachedImages(squares), mean, mean, device=torch.device("cpu"))
    expected = 2000 if name == "oversample" else len(data.splits["train"])
    for _ in range(2):
        items, labels = [], []
        for _, y in dls.train:
            items += dls.train.batch_items.tolist()
            labels += y.tolist()
        assert len(items) == expected // 50 * 50
        assert labels == data.splits["train"].targets[items].tolist()
    if name == "oversample":
        assert set(np.bincount(labels).tolist()) == {200}
    assert sum(len(y) for _, y in dls.valid) == len(data.splits["valid"])
    plain: BatchLoader = dls.train.new(shuffle=False, drop_last=False)
    assert sum(len(y) for _, y in plain) == len(data.splits["train"])
