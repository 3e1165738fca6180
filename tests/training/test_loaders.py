"""Loaders: a batch is what its items are, from a store or a stream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.learner import Learner
from fastai.vision.core import TensorImage
from helpers.digit_loaders import MEAN, STD, digit_loaders
from helpers.recipes import speednet_recipe
from torch import Tensor, nn

from ensemble.data.digits import digits_dataset
from ensemble.models.network import build_network
from ensemble.training.methods.transforms import AlternateFlip

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("stream", [False, True])
def test_batch_is_what_its_items_are(tmp_path: Path, stream: bool) -> None:
    dls, _ = digit_loaders(tmp_path, stream=stream)
    for loader, shuffled in ((dls.train, True), (dls.valid, False)):
        order = []
        for x, y in loader:
            order += loader.batch_items.tolist()
            if len(order) > 200:
                continue  # of the rest the order is enough
            for position, item in enumerate(loader.batch_items.tolist()):
                image, target = loader.dataset[item]
                expected = (
                    image.as_subclass(Tensor).float() / 255 - torch.tensor(MEAN).view(3, 1, 1)
                ) / torch.tensor(STD).view(3, 1, 1)
                torch.testing.assert_close(x[position].as_subclass(Tensor), expected)
                assert int(y[position]) == int(target)
        assert isinstance(x, TensorImage)
        whole = len(loader.dataset) // 64 * 64 if shuffled else len(loader.dataset)
        assert len(order) == len(set(order)) == whole
        assert (order != sorted(order)) == shuffled


def test_stream_and_store_train_the_same(tmp_path: Path) -> None:
    batches = []
    for stream in (False, True):
        dls, _ = digit_loaders(tmp_path, stream=stream, augment="flip-shift")
        batches.append([x.as_subclass(Tensor).clone() for x, _ in dls.train])
    assert all(torch.equal(first, other) for first, other in zip(*batches, strict=True))


def test_fastai_tools_work_on_the_batches(tmp_path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    dls, _ = digit_loaders(tmp_path)
    dls.show_batch(max_n=4)
    network = build_network(speednet_recipe(), 10)
    learner = Learner(dls, network, loss_func=nn.CrossEntropyLoss(), path=tmp_path)
    with learner.no_bar(), learner.no_logging():
        assert 1e-7 < learner.lr_find(show_plot=False).valley < 10
        learner.fit(1)
        preds, targets = learner.get_preds()
    assert preds.shape == (359, 10)
    assert (targets.numpy() == digits_dataset().splits["valid"].targets).all()


@pytest.mark.parametrize("together", [3, 100])
def test_batches_made_together_are_those_made_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    from ensemble.training.engine import loaders as module

    seen = []
    for count in (1, together):
        monkeypatch.setattr(module, "batches_at_once", lambda *_, count=count: count)
        monkeypatch.setattr(module, "transforms", lambda *_: [AlternateFlip()])  # it asks which items it has
        dls, _ = digit_loaders(tmp_path, batch_size=50)
        dls.train.epoch = 3
        epoch = [(dls.train.batch_items.copy(), x, y) for x, y in dls.train]
        assert len(epoch) == len(dls.train) == 1078 // 50
        assert len(list(dls.valid)) == len(dls.valid)
        seen.append(epoch)
    for alone, part in zip(*seen, strict=True):
        np.testing.assert_array_equal(alone[0], part[0])
        assert type(part[1]) is TensorImage
        assert torch.equal(alone[1], part[1])
        assert torch.equal(alone[2], part[2])


def test_loader_for_predicting_training_items_mirrors_the_right_ones(tmp_path: Path) -> None:
    dls, _ = digit_loaders(tmp_path, augment="alternate")
    dls.train.one_batch()
    plain = dls.train.new(shuffle=False, drop_last=False)
    batches = list(plain)
    assert sum(len(x) for x, _ in batches) == len(dls.train.dataset)
    assert plain.batch_items.tolist() == list(range(len(dls.train.dataset)))[-len(batches[-1][0]) :]
