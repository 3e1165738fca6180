"""Filters that a recipe applies to images before they are cached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.pictures import smooth_picture
from PIL import Image

from ensemble.data.digits import digits_dataset
from ensemble.data.image_cache import cache_key, open_images
from ensemble.data.preprocess import Preprocess, filtered, filters


@pytest.mark.parametrize("name", filters.names())
def test_filter_gives_an_rgb_image_of_the_image_alone(name: str) -> None:
    image = smooth_picture()
    before = image.tobytes()
    result = filtered(image, [name])
    assert result.mode == "RGB"
    assert image.tobytes() == before
    assert result.tobytes() == filtered(image, [name]).tobytes()
    if name != "lesion":
        assert result.size == image.size
    for extreme in (Image.new("RGB", (40, 40)), Image.new("RGB", (9, 7), "white"), Image.new("RGB", (1, 1))):
        assert filtered(extreme, [name]).size == extreme.size


def test_hair_filter_removes_hairs_and_keeps_skin() -> None:
    skin = smooth_picture((256, 256)).point(lambda value: 120 + value // 3)
    hairy = skin.copy()
    pixels = np.array(hairy)
    for offset in range(20, 240, 40):
        pixels[offset : offset + 2] = 30
        pixels[np.arange(256), np.clip(np.arange(256) + offset - 128, 0, 255)] = 30
    hairs = (pixels != np.array(skin)).any(-1)
    cleaned = np.array(filtered(Image.fromarray(pixels), ["hair"])).astype(int)
    wrong = np.abs(cleaned - np.array(skin)).mean(-1)
    assert wrong[hairs].mean() < 0.15 * np.abs(pixels.astype(int) - np.array(skin)).mean(-1)[hairs].mean()
    assert wrong[~hairs].mean() < 2
    clean = np.array(filtered(skin, ["hair"])).astype(int)
    assert np.abs(clean - np.array(skin)).mean() < 0.5


def test_lesion_filter_crops_with_a_margin() -> None:
    rows, columns = np.mgrid[:200, :300]
    spot = ((rows - 90) / 30) ** 2 + ((columns - 170) / 45) ** 2 <= 1
    pixels = np.where(spot[..., None], [90, 50, 40], [220, 190, 170]).astype(np.uint8)
    pixels[:, :3] = 0  # a dark border is no lesion
    result = filtered(Image.fromarray(pixels), ["lesion"])
    assert result.size == pytest.approx((90 + 18, 60 + 18), abs=6)
    assert (np.array(result)[len(np.array(result)) // 2, result.width // 2] == [90, 50, 40]).all()


def test_filters_are_part_of_the_cache_key(tmp_path: Path) -> None:
    data = digits_dataset()
    names = list(data.content.values())[:3]
    keys = {
        cache_key(data, names, Preprocess(16, "squash", some))
        for some in ((), ("grey",), ("grey", "clahe"), ("clahe", "grey"))
    }
    assert len(keys) == 4
    plain, edged = open_images(
        data, ["train"], [Preprocess(16, "squash"), Preprocess(16, "squash", ("edges",))], tmp_path
    )
    rows = np.arange(5)
    assert not np.array_equal(plain.take(rows), edged.take(rows))
    (again,) = open_images(data, ["train"], [Preprocess(16, "squash", ("edges",))], tmp_path)
    assert np.array_equal(again.take(rows), edged.take(rows))
