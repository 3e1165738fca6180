"""Folders of small images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.image_folder import Folder
from helpers.photos import flat_image, flat_images
from helpers.table_data import write_lines


@pytest.fixture
def small_photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for split, count in (("train", 6), ("valid", 2)):
        for label in ("cat", "dog"):
            for row in range(count):
                flat_image(root / split / label / f"{split}{row}.png", row + 10 * (label == "dog"))
    flat_image(root / "test" / "a.png", 99)
    return root


@pytest.fixture
def table(tmp_path: Path) -> Path:
    root = flat_images(tmp_path / "d", *[f"images/{row:04}.png" for row in range(8)])
    write_lines(root / "train.csv", "id,label", *[f"{row:04},{'NA' if row % 2 else 'null'}" for row in range(6)])
    write_lines(root / "test.csv", "id", "0007", "0006")
    return root


@pytest.fixture
def image_folder() -> Folder:
    random = np.random.default_rng(0)
    return Folder({f"{i}.png": random.integers(0, 256, (9 + i, 14, 3), dtype=np.uint8) for i in range(7)})
