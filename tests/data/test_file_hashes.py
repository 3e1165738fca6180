"""Files are read once, again when they change; unreadable ones are reported together."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from helpers.folder_photos import folder_spec, load_folders
from helpers.photos import flat_image

from ensemble.core.errors import DataError, EnsError
from ensemble.data import file_hashes
from ensemble.data.file_hashes import UnreadableFiles
from ensemble.data.load import current_fingerprint, load_dataset


def test_unreadable_files_are_reported_together(small_photos: Path) -> None:
    whole = (small_photos / "train" / "cat" / "train0.png").read_bytes()
    (small_photos / "train" / "cat" / "train0.png").write_bytes(whole[:45])
    (small_photos / "train" / "cat" / "train1.png").write_bytes(b"")
    (small_photos / "valid" / "dog" / "valid0.png").write_text("not an image")
    for row in range(10):
        (small_photos / "test" / f"{row}.png").touch()
    with pytest.raises(UnreadableFiles) as caught:
        load_folders(small_photos)
    message = str(caught.value)
    assert message.startswith("13 of 27 images") and message.endswith("--set data.skip_unreadable=true")
    assert "train/cat/train1.png is empty" in message and "and 8 more" in message and "\n" not in message
    assert len(caught.value.problems) == 13 and caught.value.exit_code == 3
    with pytest.raises(UnreadableFiles, match="3 of 16"):
        current_fingerprint(folder_spec(small_photos), small_photos.parent / "runs")


def test_unreadable_files_are_skipped_on_request(small_photos: Path) -> None:
    (small_photos / "train" / "cat" / "train0.png").write_bytes(b"broken")
    output: list[str] = []
    data = load_dataset(
        folder_spec(small_photos, skip_unreadable=True), small_photos.parent / "runs", note=output.append
    )
    assert "cat/train0" not in data.splits["train"].ids and len(data.splits["train"]) == 11
    assert any("skipped 1 of 17" in line and "cat/train0.png" in line for line in output)
    (small_photos / "train" / "cat" / "train0.png").unlink()
    assert load_folders(small_photos).fingerprint == data.fingerprint


def test_skipping_every_image_of_a_class_is_refused(small_photos: Path) -> None:
    for path in (small_photos / "train" / "cat").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match="without a training image: 'cat'"):
        load_folders(small_photos, skip_unreadable=True)


def test_files_are_read_once_and_again_when_they_change(
    small_photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    truly = file_hashes.examined

    def counted(path: Path, **keys: object):
        read.append(path.name)
        return truly(path, **keys)  # type: ignore[arg-type]

    monkeypatch.setattr(file_hashes, "examined", counted)
    progress: list[tuple[int, int]] = []
    runs = small_photos.parent / "runs"
    first = load_dataset(
        folder_spec(small_photos), runs, progress=lambda done, total: progress.append((done, total))
    )
    assert len(read) == 17 and progress == [(done, 17) for done in range(1, 18)]
    read.clear()
    assert load_folders(small_photos).fingerprint == first.fingerprint and read == []
    changed = small_photos / "train" / "cat" / "train0.png"
    flat_image(changed, 201)
    os.utime(changed, ns=(1, 1))
    assert load_folders(small_photos).fingerprint != first.fingerprint and read == ["train0.png"]
    read.clear()
    load_folders(small_photos, max_pixels=10**6)
    assert len(read) == 17, "another cap is another question"


def test_swapped_files_of_equal_size_and_time_are_noticed(small_photos: Path) -> None:
    first, second = (small_photos / "train" / name for name in ("cat/train0.png", "dog/train1.png"))
    for path in (first, second):
        path.write_bytes(path.read_bytes().ljust(1_000, b"\0"))
        os.utime(path, ns=(10**18, 10**18))
    before = load_folders(small_photos)
    spare = small_photos / "spare"
    first.rename(spare)
    second.rename(first)
    spare.rename(second)
    after = load_folders(small_photos)
    assert after.content["train/cat/train0.png"] == before.content["train/dog/train1.png"]
    assert after.fingerprint != before.fingerprint


def test_one_image_with_two_labels_is_named(small_photos: Path) -> None:
    shutil.copy(small_photos / "train" / "cat" / "train0.png", small_photos / "train" / "dog" / "copy.png")
    shutil.copy(small_photos / "train" / "cat" / "train1.png", small_photos / "train" / "cat" / "copy.png")
    notes: list[str] = []
    load_dataset(folder_spec(small_photos), small_photos.parent / "runs", note=notes.append)
    (note,) = [line for line in notes if "two labels" in line]
    assert "the same: 1 ('train/cat/train0.png and train/dog/copy.png')" in note


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text", "folder"])
def test_damaged_hash_cache_changes_nothing(small_photos: Path, damage: str) -> None:
    first = load_folders(small_photos)
    (memory,) = (small_photos.parent / "runs" / ".data").glob("digests-*.json")
    whole = memory.read_bytes()
    sha256 = json.loads(whole.partition(b"\n")[2])["test/a.png"][4].encode()
    if damage == "folder":
        memory.unlink()
        memory.mkdir()
    else:
        flipped = whole.replace(sha256, b"0" * 64)
        assert flipped != whole
        memory.write_bytes({"flip": flipped, "cut": whole[:99], "empty": b"", "text": b"x\n{"}[damage])
    again = load_folders(small_photos)
    assert (again.fingerprint, again.test_fingerprints) == (first.fingerprint, first.test_fingerprints)


def test_unwritable_hash_cache_changes_nothing(small_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_folders(small_photos)

    def full(path: Path, content: object) -> Path:
        raise EnsError("cannot write: No space left on device")

    monkeypatch.setattr(file_hashes, "write_atomically", full)
    assert current_fingerprint(folder_spec(small_photos), small_photos.parent / "new runs") == first.fingerprint
