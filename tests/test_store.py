"""Stores of squares: the same pixels as decoding each image now, decoded once, never a damaged or a stale one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ensemble.core.errors import DataError, RecipeError
from ensemble.data import cache_store as stores
from ensemble.data.cache_store import LIMIT_VARIABLE
from ensemble.data.dataset import Dataset, Items
from ensemble.data.image_cache import PreprocessedImages, StoredImages, StreamedImages, cache_key, open_images
from ensemble.data.preprocess import Preprocess, resizes

SMALL, PADDED = Preprocess(8, "squash"), Preprocess(12, "pad")


class Folder:
    """Images in memory under paths, and how often each was opened."""

    def __init__(self, pictures: dict[str, np.ndarray]) -> None:
        self.pictures = pictures
        self.opened: list[str] = []

    def __call__(self, path: str) -> Image.Image:
        self.opened.append(path)
        if path not in self.pictures:
            raise DataError(f"{path}: no such file")
        return Image.fromarray(self.pictures[path])

    def dataset(self, **splits: list[str]) -> Dataset:
        digests = {path: hashlib.sha256(pixels.tobytes()).hexdigest() for path, pixels in self.pictures.items()}
        items = {
            split: Items(np.array(paths), np.array(paths), np.zeros(len(paths), np.int64))
            for split, paths in splits.items()
        }
        return Dataset(np.array(["a", "b"]), items, "", {}, self, digests)


@pytest.fixture
def folder() -> Folder:
    random = np.random.default_rng(0)
    return Folder({f"{i}.png": random.integers(0, 256, (9 + i, 14, 3), dtype=np.uint8) for i in range(7)})


def pixels(folder: Folder, square: Preprocess, path: str) -> np.ndarray:
    return np.asarray(resizes.get(square.resize)(Image.fromarray(folder.pictures[path]), square.size))


def opened(folder: Folder, where: Path, *squares: Preprocess, **splits: list[str]) -> list[PreprocessedImages]:
    result = splits or {"train": sorted(folder.pictures)}
    return open_images(folder.dataset(**result), list(result), squares or [SMALL], where)


@pytest.mark.parametrize("limit", ["64", "0"])
def test_squares_are_the_images_in_any_order(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, limit)
    for square, result in zip((SMALL, PADDED), opened(folder, tmp_path, SMALL, PADDED), strict=True):
        assert isinstance(result, StoredImages if limit == "64" else StreamedImages)
        paths = ["5.png", "0.png", "5.png", "3.png"]
        taken = result.take(result.rows(paths))
        assert taken.dtype == np.uint8
        assert taken.shape == (4, square.size, square.size, 3)
        for got, path in zip(taken, paths, strict=True):
            assert (got == pixels(folder, square, path)).all()


def test_each_image_is_decoded_once_for_all_sizes(folder: Folder, tmp_path: Path) -> None:
    opened(folder, tmp_path, SMALL, PADDED, Preprocess(16, "crop"))
    assert sorted(folder.opened) == sorted(folder.pictures)


def test_a_store_that_is_there_is_opened(folder: Folder, tmp_path: Path) -> None:
    opened(folder, tmp_path)
    folder.opened.clear()
    opened(folder, tmp_path)
    # another division of the same images, as folds and refits are, shares it
    opened(folder, tmp_path, train=["0.png", "1.png", "2.png"], valid=["3.png", "4.png", "5.png", "6.png"])
    assert folder.opened == []
    opened(folder, tmp_path, SMALL, PADDED)
    assert len(folder.opened) == 7


def test_copies_of_an_image_are_stored_once(folder: Folder, tmp_path: Path) -> None:
    folder.pictures["copy.png"] = folder.pictures["0.png"]
    (result,) = opened(folder, tmp_path)
    assert isinstance(result, StoredImages) and len(result.pixels) == 7
    assert (result.take(result.rows(["copy.png"])) == result.take(result.rows(["0.png"]))).all()


def test_changed_content_size_mode_and_background_have_names_of_their_own(folder: Folder) -> None:
    data = folder.dataset(train=["0.png"])
    digests = ["aa", "bb"]
    names = [
        cache_key(data, digests, SMALL),
        cache_key(data, digests[:1], SMALL),
        cache_key(data, digests, Preprocess(9, "squash")),
        cache_key(data, digests, Preprocess(8, "pad")),
        cache_key(replace(data, background=(0, 0, 0)), digests, SMALL),
    ]
    assert len(set(names)) == 5


def test_a_changed_image_is_decoded_again(folder: Folder, tmp_path: Path) -> None:
    opened(folder, tmp_path)
    folder.pictures["2.png"] = 255 - folder.pictures["2.png"]
    (result,) = opened(folder, tmp_path)
    assert (result.take(result.rows(["2.png"]))[0] == pixels(folder, SMALL, "2.png")).all()


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
def test_a_damaged_store_is_made_again(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(stores, "CHUNK", 500)
    (first,) = opened(folder, tmp_path)
    before = first.take(np.arange(7))
    (path,) = tmp_path.glob("*.u8")
    DAMAGES[damage](path)
    folder.opened.clear()
    (result,) = opened(folder, tmp_path)
    assert len(folder.opened) == 7
    assert (result.take(np.arange(7)) == before).all()


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 20), chunk=st.integers(50, 2000))
def test_chunks_of_any_size_check_every_byte(
    count: int, chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
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


def test_an_image_that_cannot_be_read_leaves_nothing_behind(folder: Folder, tmp_path: Path) -> None:
    data = folder.dataset(train=sorted(folder.pictures))
    del folder.pictures["4.png"]
    with pytest.raises(DataError, match=r"4\.png: no such file"):
        open_images(data, ["train"], [SMALL], tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == []


def test_beyond_the_limit_images_are_decoded_each_time_and_a_note_says_so(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "1e-6")  # a thousand bytes; seven squares take 1,344
    notes: list[str] = []
    (result,) = open_images(
        folder.dataset(train=sorted(folder.pictures)), ["train"], [SMALL], tmp_path, None, notes.append
    )
    assert isinstance(result, StreamedImages)
    assert folder.opened == []
    assert notes and "1.3 kB of squares are above the limit of 1.0 kB" in notes[0] and LIMIT_VARIABLE in notes[0]


def test_a_full_disk_streams(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "SPARE", 1 << 60)
    notes: list[str] = []
    (result,) = open_images(folder.dataset(train=["0.png"]), ["train"], [SMALL], tmp_path, None, notes.append)
    assert isinstance(result, StreamedImages)
    assert "do not fit on a disk" in notes[0]


def test_a_disk_that_refuses_streams(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    notes: list[str] = []
    (result,) = open_images(
        folder.dataset(train=["0.png"]), ["train"], [SMALL], tmp_path / "file", None, notes.append
    )
    assert isinstance(result, StreamedImages)
    assert "cannot write" in notes[0]
    assert result.take(np.array([0])).shape == (1, 8, 8, 3)


@pytest.mark.parametrize("limit", ["much", "-1", "nan", "inf", ""])
def test_a_limit_that_is_no_number_is_refused(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, limit)
    with pytest.raises(RecipeError, match="a number of gigabytes"):
        opened(folder, tmp_path)


def test_what_was_not_used_for_longest_makes_room(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [Preprocess(size, "squash") for size in (8, 9, 10)]
    for age, square in enumerate(sizes):
        opened(folder, tmp_path, square)
        (facts,) = (path for path in tmp_path.glob("*.json") if json.loads(path.read_text())["size"] == square.size)
        os.utime(facts, (1000 + age, 1000 + age))
    opened(folder, tmp_path, sizes[0])  # used again: now the second is the oldest
    total = sum(7 * square.bytes for square in (sizes[0], sizes[2], SMALL))
    monkeypatch.setenv(LIMIT_VARIABLE, str((total + 12 * 12 * 3 * 7 - SMALL.bytes * 7) / 1e9))
    opened(folder, tmp_path, PADDED)
    left = {json.loads(path.read_text())["size"] for path in tmp_path.glob("*.json")}
    assert left == {8, 10, 12}
    assert len(list(tmp_path.glob("*.u8"))) == 3


def test_squares_without_facts_are_the_first_to_go_and_facts_without_squares_hurt_nobody(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "orphan.u8").write_bytes(bytes(5000))
    (tmp_path / "lonely.json").write_text("{}")
    opened(folder, tmp_path, SMALL)
    monkeypatch.setenv(LIMIT_VARIABLE, str(7 * (SMALL.bytes + PADDED.bytes) / 1e9))
    opened(folder, tmp_path, PADDED)
    assert not (tmp_path / "orphan.u8").exists()
    assert len(list(tmp_path.glob("*.u8"))) == 2


def test_the_small_squares_are_stored_where_not_all_fit(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, str(7 * SMALL.bytes / 1e9))
    padded, small = opened(folder, tmp_path, PADDED, SMALL)
    assert isinstance(small, StoredImages) and isinstance(padded, StreamedImages)
    for square, result in ((PADDED, padded), (SMALL, small)):
        assert (result.take(result.rows(["6.png"]))[0] == pixels(folder, square, "6.png")).all()


def test_other_stores_make_room_on_a_short_disk(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(folder, tmp_path, PADDED)
    monkeypatch.setattr(stores, "_free", lambda folder: stores.SPARE + 7 * SMALL.bytes - 1)
    (small,) = opened(folder, tmp_path, SMALL)
    assert isinstance(small, StoredImages)
    assert len(list(tmp_path.glob("*.u8"))) == 1


def test_what_is_written_to_the_pixels_stays_out_of_the_file(folder: Folder, tmp_path: Path) -> None:
    (result,) = opened(folder, tmp_path)
    assert isinstance(result, StoredImages)
    before = result.take(np.arange(7))
    result.pixels[:] = 0
    (again,) = opened(folder, tmp_path)
    assert (again.take(np.arange(7)) == before).all()


def test_half_a_store_of_a_process_that_is_gone_is_removed(folder: Folder, tmp_path: Path) -> None:
    for name, age in ((".old.u8.aa.tmp", 0), (".new.u8.bb.tmp", None)):
        (tmp_path / name).write_text("half")
        if age is not None:
            os.utime(tmp_path / name, (age, age))
    opened(folder, tmp_path)
    assert [path.name for path in tmp_path.glob(".*.tmp")] == [".new.u8.bb.tmp"]


def test_progress_counts_every_image(folder: Folder, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    open_images(
        folder.dataset(train=sorted(folder.pictures)), ["train"], [SMALL], tmp_path, lambda *pair: seen.append(pair)
    )
    assert seen == [(done, 7) for done in range(1, 8)]
