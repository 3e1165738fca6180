"""Folders with runs of photos."""

from __future__ import annotations

import pytest
from helpers.fake_runs import DIGITS, member
from helpers.photo_runs import trained_run
from helpers.photos import flat_image


@pytest.fixture
def photo_folder(tmp_path, monkeypatch):
    """A folder with the images `photos` and no run."""
    monkeypatch.chdir(tmp_path)
    for c, name in enumerate(("cat", "dog")):
        for i in range(6):
            flat_image(tmp_path / "photos" / "train" / name / f"{name}{i}.png", 10 * i + 100 * c, 8)
            flat_image(tmp_path / "photos" / "valid" / name / f"{name}v{i}.png", 10 * i + 100 * c + 5, 8)
    for i in range(4):
        flat_image(tmp_path / "photos" / "test" / f"t{i}.png", 200 + i, 8)
    return tmp_path


@pytest.fixture
def photo_runs(photo_folder):
    """Two members of `photos`, and two older ones of the digits."""
    for i in range(2):
        member(photo_folder / "runs", f"old{i}-0", seed=i, data=DIGITS)
        trained_run(photo_folder, f"net{i}-0", seed=i)
    return photo_folder
