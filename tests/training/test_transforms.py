"""Transforms of batches: small moves, mirrors."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from fastai.vision.core import TensorImage
from torch import Tensor, nn

from ensemble.training.methods.transforms import AlternateFlip, flip_shift


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


def test_alternate_flip_mirrors_every_other_epoch() -> None:
    class Loader:
        items, epoch = 50, 0
        batch_items = np.arange(50)

    torch.manual_seed(0)
    flip, loader = AlternateFlip(), Loader()
    flip.loader = loader
    x = TensorImage(torch.rand(50, 3, 4, 4))
    seen = []
    for loader.epoch in range(4):
        out = flip.encodes(x).as_subclass(Tensor)
        mirrored = (out == x.as_subclass(Tensor).flip(-1)).flatten(1).all(1)
        assert (mirrored | (out == x.as_subclass(Tensor)).flatten(1).all(1)).all()
        seen.append(mirrored)
    assert 10 < int(seen[0].sum()) < 40
    assert all(torch.equal(first, ~other) for first, other in itertools.pairwise(seen))
    loader.batch_items = np.array([3, 3, 9])
    loader.epoch = 0
    again = flip.encodes(x[:3]).as_subclass(Tensor)
    expected = [x[i].flip(-1) if seen[0][item] else x[i] for i, item in enumerate((3, 3, 9))]
    assert torch.equal(again, torch.stack([first.as_subclass(Tensor) for first in expected]))
