"""The first command decodes every image once, for the check and for the image cache."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensemble.data.decoded_images import DecodedImages
from ensemble.data.image_cache import open_images
from ensemble.data.load import load_dataset
from ensemble.data.preprocess import Preprocess
from ensemble.recipe.data_spec import DataSpec

SQUARES = (Preprocess(8, "squash"), Preprocess(12, "pad", ("grey",)))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for split, count in (("train", 6), ("valid", 3), ("test", 2)):
        for label in ("cat", "dog"):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(draw.integers(0, 255, (20, 30, 3), np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "photos"


def spec(photos: Path) -> DataSpec:
    return DataSpec(form="folders", path=str(photos), valid="valid", test="test")


def test_images_are_decoded_once_and_are_the_same(photos: Path, tmp_path: Path, decodes: list[int]) -> None:
    decoded = DecodedImages.within_memory(SQUARES)
    dataset = load_dataset(spec(photos), tmp_path / "a", decoded=decoded)
    stores = open_images(dataset, ["train", "valid"], SQUARES, tmp_path / "a")
    tests = open_images(dataset, ["test"], SQUARES, tmp_path / "a")
    assert len(decodes) == 22
    again = load_dataset(spec(photos), tmp_path / "b")
    for expected, store in zip(
        open_images(again, ["train", "valid"], SQUARES, tmp_path / "b"), stores, strict=True
    ):
        assert np.array_equal(store.take(np.arange(18)), expected.take(np.arange(18)))
    assert len(decodes) == 22 + 22 + 18
    assert len(tests) == 2
    assert decoded.take(next(iter(dataset.content.values())), SQUARES) is None  # nothing stays in memory


def test_kept_images_have_a_limit_and_are_not_pickled(photos: Path, tmp_path: Path, decodes: list[int]) -> None:
    a_few = DecodedImages(SQUARES, room=5 * sum(square.bytes for square in SQUARES) + 1)
    dataset = load_dataset(spec(photos), tmp_path / "runs", decoded=a_few)
    assert len(pickle.dumps(dataset)) < 20_000
    open_images(dataset, ["train", "valid", "test"], SQUARES, tmp_path / "runs")
    assert len(decodes) == 22 + 22 - 5


def test_an_unknown_filter_is_left_to_the_training(photos: Path, tmp_path: Path) -> None:
    decoded = DecodedImages.within_memory([Preprocess(8, "squash", ("no-such-filter",)), Preprocess(8, "fold")])
    assert decoded.transforms == ()
    load_dataset(spec(photos), tmp_path / "runs", decoded=decoded)
