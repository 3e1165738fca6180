"""Stores of preprocessed images: the pixels of decoding now, decoded once, never damaged or stale."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.image_folder import PADDED, SMALL, Folder, opened, pixels
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.core.errors import DataError
from ensemble.data import cache_store as stores
from ensemble.data.cache_store import LIMIT_VARIABLE
from ensemble.data.image_cache import StoredImages, StreamedImages, cache_key, open_images
from ensemble.data.preprocess import Preprocess


@pytest.mark.parametrize("limit", ["64", "0"])
def test_stored_images_in_any_order(
    image_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, limit)
    for square, result in zip((SMALL, PADDED), opened(image_folder, tmp_path, SMALL, PADDED), strict=True):
        assert isinstance(result, StoredImages if limit == "64" else StreamedImages)
        paths = ["5.png", "0.png", "5.png", "3.png"]
        taken = result.take(result.rows(paths))
        assert taken.dtype == np.uint8
        assert taken.shape == (4, square.size, square.size, 3)
        for got, path in zip(taken, paths, strict=True):
            assert (got == pixels(image_folder, square, path)).all()


def test_each_image_is_decoded_once_for_all_sizes(image_folder: Folder, tmp_path: Path) -> None:
    opened(image_folder, tmp_path, SMALL, PADDED, Preprocess(16, "crop"))
    assert sorted(image_folder.opened) == sorted(image_folder.pictures)


def test_existing_store_is_opened(image_folder: Folder, tmp_path: Path) -> None:
    opened(image_folder, tmp_path)
    image_folder.opened.clear()
    opened(image_folder, tmp_path)
    # another division of the same images, as folds and refits are, shares it
    opened(image_folder, tmp_path, train=["0.png", "1.png", "2.png"], valid=["3.png", "4.png", "5.png", "6.png"])
    assert image_folder.opened == []
    opened(image_folder, tmp_path, SMALL, PADDED)
    assert len(image_folder.opened) == 7


def test_copies_of_an_image_are_stored_once(image_folder: Folder, tmp_path: Path) -> None:
    image_folder.pictures["copy.png"] = image_folder.pictures["0.png"]
    (result,) = opened(image_folder, tmp_path)
    assert isinstance(result, StoredImages) and len(result.pixels) == 7
    assert (result.take(result.rows(["copy.png"])) == result.take(result.rows(["0.png"]))).all()


def test_store_name_covers_content_size_mode_and_background(image_folder: Folder) -> None:
    data = image_folder.dataset(train=["0.png"])
    digests = ["aa", "bb"]
    names = [
        cache_key(data, digests, SMALL),
        cache_key(data, digests[:1], SMALL),
        cache_key(data, digests, Preprocess(9, "squash")),
        cache_key(data, digests, Preprocess(8, "pad")),
        cache_key(replace(data, background=(0, 0, 0)), digests, SMALL),
    ]
    assert len(set(names)) == 5


def test_changed_image_is_decoded_again(image_folder: Folder, tmp_path: Path) -> None:
    opened(image_folder, tmp_path)
    image_folder.pictures["2.png"] = 255 - image_folder.pictures["2.png"]
    (result,) = opened(image_folder, tmp_path)
    assert (result.take(result.rows(["2.png"]))[0] == pixels(image_folder, SMALL, "2.png")).all()


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "one bit": lambda path: flip(path, 100),
    "the last byte": lambda path: flip(path, -1),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"0"),
    "gone": lambda path: path.unlink(),
    "facts gone": lambda path: path.with_suffix(".json").unlink(),
    "facts broken": lambda path: path.with_suffix(".json").write_text("{"),
    "facts of others": lambda path: path.with_suffix(".json").write_text("[1]"),
    "a sum missing": lambda path: path.with_suffix(".json").write_text(
        json.dumps(json.loads(path.with_suffix(".json").read_text()) | {"sha256": []})
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_store_is_repeated(
    image_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(stores, "CHUNK", 500)
    (first,) = opened(image_folder, tmp_path)
    before = first.take(np.arange(7))
    (path,) = tmp_path.glob("*.u8")
    DAMAGES[damage](path)
    image_folder.opened.clear()
    (result,) = opened(image_folder, tmp_path)
    assert len(image_folder.opened) == 7
    assert (result.take(np.arange(7)) == before).all()


@settings(max_examples=30)
@given(count=st.integers(1, 20), chunk=st.integers(50, 2000))
def test_store_checks_every_byte(count: int, chunk: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    where = tmp_path_factory.mktemp("squares")
    random = np.random.default_rng(count)
    folder = Folder({str(i): random.integers(0, 256, (8, 8, 3), dtype=np.uint8) for i in range(count)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "CHUNK", chunk)
        (result,) = opened(folder, where)
        (path,) = where.glob("*.u8")
        facts = json.loads(path.with_suffix(".json").read_text())
        assert len(facts["sha256"]) == -(-count * SMALL.bytes // chunk)
        folder.opened.clear()
        opened(folder, where)
        assert folder.opened == []
    assert all((result.take(result.rows([name]))[0] == folder.pictures[name]).all() for name in folder.pictures)


def test_unreadable_image_leaves_no_store(image_folder: Folder, tmp_path: Path) -> None:
    data = image_folder.dataset(train=sorted(image_folder.pictures))
    del image_folder.pictures["4.png"]
    with pytest.raises(DataError, match=r"4\.png: no such file"):
        open_images(data, ["train"], [SMALL], tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == []


def test_writing_to_pixels_does_not_change_the_store(image_folder: Folder, tmp_path: Path) -> None:
    (result,) = opened(image_folder, tmp_path)
    assert isinstance(result, StoredImages)
    before = result.take(np.arange(7))
    result.pixels[:] = 0
    (again,) = opened(image_folder, tmp_path)
    assert (again.take(np.arange(7)) == before).all()


def test_partial_store_of_an_ended_process_is_removed(image_folder: Folder, tmp_path: Path) -> None:
    for name, age in ((".old.u8.aa.tmp", 0), (".new.u8.bb.tmp", None)):
        (tmp_path / name).write_text("half")
        if age is not None:
            os.utime(tmp_path / name, (age, age))
    opened(image_folder, tmp_path)
    assert [path.name for path in tmp_path.glob(".*.tmp")] == [".new.u8.bb.tmp"]


def test_store_progress_counts_every_image(image_folder: Folder, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    open_images(
        image_folder.dataset(train=sorted(image_folder.pictures)),
        ["train"],
        [SMALL],
        tmp_path,
        lambda *pair: seen.append(pair),
    )
    assert seen == [(done, 7) for done in range(1, 8)]
