"""Stores where memory or disk is short."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.image_folder import PADDED, SMALL, Folder, opened, pixels

from ensemble.core.errors import RecipeError
from ensemble.data import cache_store as stores
from ensemble.data.cache_store import LIMIT_VARIABLE
from ensemble.data.image_cache import StoredImages, StreamedImages, open_images
from ensemble.data.preprocess import Preprocess


def test_store_beyond_the_limit_streams_with_a_note(
    image_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "1e-6")  # a thousand bytes; seven squares take 1,344
    notes: list[str] = []
    (result,) = open_images(
        image_folder.dataset(train=sorted(image_folder.pictures)), ["train"], [SMALL], tmp_path, None, notes.append
    )
    assert isinstance(result, StreamedImages)
    assert image_folder.opened == []
    assert notes and "1.3 kB of squares are above the limit of 1.0 kB" in notes[0] and LIMIT_VARIABLE in notes[0]


def test_full_disk_streams(image_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "SPARE", 1 << 60)
    notes: list[str] = []
    (result,) = open_images(image_folder.dataset(train=["0.png"]), ["train"], [SMALL], tmp_path, None, notes.append)
    assert isinstance(result, StreamedImages)
    assert "do not fit on a disk" in notes[0]


def test_disk_error_streams(image_folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    notes: list[str] = []
    (result,) = open_images(
        image_folder.dataset(train=["0.png"]), ["train"], [SMALL], tmp_path / "file", None, notes.append
    )
    assert isinstance(result, StreamedImages)
    assert "cannot write" in notes[0]
    assert result.take(np.array([0])).shape == (1, 8, 8, 3)


@pytest.mark.parametrize("limit", ["much", "-1", "nan", "inf", ""])
def test_cache_limit_must_be_a_number(
    image_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, limit)
    with pytest.raises(RecipeError, match="a number of gigabytes"):
        opened(image_folder, tmp_path)


def test_least_recently_used_store_is_removed(
    image_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [Preprocess(size, "squash") for size in (8, 9, 10)]
    for age, square in enumerate(sizes):
        opened(image_folder, tmp_path, square)
        (facts,) = (path for path in tmp_path.glob("*.json") if json.loads(path.read_text())["size"] == square.size)
        os.utime(facts, (1000 + age, 1000 + age))
    opened(image_folder, tmp_path, sizes[0])  # used again: now the second is the oldest
    total = sum(7 * square.bytes for square in (sizes[0], sizes[2], SMALL))
    monkeypatch.setenv(LIMIT_VARIABLE, str((total + 12 * 12 * 3 * 7 - SMALL.bytes * 7) / 1e9))
    opened(image_folder, tmp_path, PADDED)
    left = {json.loads(path.read_text())["size"] for path in tmp_path.glob("*.json")}
    assert left == {8, 10, 12}
    assert len(list(tmp_path.glob("*.u8"))) == 3


def test_incomplete_stores_are_removed_first(
    image_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "orphan.u8").write_bytes(bytes(5000))
    (tmp_path / "lonely.json").write_text("{}")
    opened(image_folder, tmp_path, SMALL)
    monkeypatch.setenv(LIMIT_VARIABLE, str(7 * (SMALL.bytes + PADDED.bytes) / 1e9))
    opened(image_folder, tmp_path, PADDED)
    assert not (tmp_path / "orphan.u8").exists()
    assert len(list(tmp_path.glob("*.u8"))) == 2


def test_small_images_are_stored_where_not_all_fit(
    image_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, str(7 * SMALL.bytes / 1e9))
    padded, small = opened(image_folder, tmp_path, PADDED, SMALL)
    assert isinstance(small, StoredImages) and isinstance(padded, StreamedImages)
    for square, result in ((PADDED, padded), (SMALL, small)):
        assert (result.take(result.rows(["6.png"]))[0] == pixels(image_folder, square, "6.png")).all()


def test_other_stores_make_room_on_a_short_disk(
    image_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(image_folder, tmp_path, PADDED)
    free = stores.SPARE + 7 * SMALL.bytes - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    (small,) = opened(image_folder, tmp_path, SMALL)
    assert isinstance(small, StoredImages)
    assert len(list(tmp_path.glob("*.u8"))) == 1
