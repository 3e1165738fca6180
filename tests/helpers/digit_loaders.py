"""Loaders of the digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from fastai.data.core import DataLoaders

from ensemble.data.digits import digits_dataset
from ensemble.data.image_cache import StreamedImages, open_images
from ensemble.data.preprocess import Preprocess
from ensemble.inference.image_batches import CachedImages
from ensemble.training.engine.checkpoint import seed_everything
from ensemble.training.engine.loaders import data_loaders
from helpers.recipes import speednet_recipe

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)


def digit_loaders(folder: Path, *, stream: bool = False, **keys: Any) -> tuple[DataLoaders, CachedImages]:
    data = digits_dataset()
    (squares,) = open_images(data, ["train", "valid"], [Preprocess(16, "squash")], folder)
    if stream:
        paths = tuple(data.splits["train"].paths.tolist() + data.splits["valid"].paths.tolist())
        squares = StreamedImages(Preprocess(16, "squash"), data.open_image, paths)
    images = CachedImages(squares)
    seed_everything(0, "loaders")
    return data_loaders(speednet_recipe(**keys), data, images, MEAN, STD, device=torch.device("cpu")), images
