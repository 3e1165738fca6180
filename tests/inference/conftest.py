"""Runs with networks that Grad-CAM explains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensemble.cli import run as ens


@pytest.fixture
def trained_on_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a run that has learnt that one side of an image is bright."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for split, each in (("train", 24), ("valid", 8)):
        for name, columns in (("left", slice(2, 12)), ("right", slice(20, 30))):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for index in range(each):
                pixels = random.integers(0, 60, (32, 32, 3), dtype=np.uint8)
                row = int(random.integers(4, 18))
                pixels[row : row + 10, columns] += 150
                Image.fromarray(pixels).save(folder / f"{name}{index}.png")
    words = ["train", "--arch", "customnet", "--data", "photos", "--image-size", "32", "--batch-size", "8"]
    assert ens([*words, "--epochs", "6", "--lr", "0.01", "--set", "filters=[8, 16]", "--set", "augment=none"]) == 0
    (run,) = (path.name for path in Path("runs").glob("customnet-*"))
    return run
