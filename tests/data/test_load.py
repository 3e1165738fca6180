"""Loading: fingerprints are of content, items are written beside the runs, readers are pickled."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.folder_photos import folder_spec, load_folders
from helpers.photos import flat_image

from ensemble.core.errors import DataError, RecipeError
from ensemble.data.dataset import Dataset, Items, fingerprint
from ensemble.data.digits import digits_dataset
from ensemble.data.load import current_fingerprint, fold_of, refit_of


def test_fingerprint_ignores_places(small_photos: Path, tmp_path: Path) -> None:
    first = load_folders(small_photos)
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(small_photos, moved)
    assert load_folders(moved).fingerprint == first.fingerprint
    assert load_folders(moved).test_fingerprints == first.test_fingerprints
    assert current_fingerprint(folder_spec(moved), tmp_path / "other runs") == first.fingerprint


@pytest.mark.parametrize("change", ["content", "label", "split", "id", "classes"])
def test_fingerprint_covers_content_labels_splits_and_ids(small_photos: Path, change: str) -> None:
    first = load_folders(small_photos)
    keys: dict[str, object] = {}
    file = small_photos / "train" / "cat" / "train0.png"
    if change == "content":
        flat_image(file, 200)
    elif change == "label":
        file.rename(small_photos / "train" / "dog" / "train9.png")
    elif change == "split":
        file.rename(small_photos / "valid" / "cat" / "train0.png")
    elif change == "id":
        file.rename(file.with_name("other.png"))
    else:
        keys["classes"] = ("dog", "cat")
    changed = load_folders(small_photos, **keys)
    assert changed.fingerprint != first.fingerprint
    assert (
        current_fingerprint(folder_spec(small_photos, **keys), small_photos.parent / "runs") == changed.fingerprint
    )
    if change != "classes":
        assert changed.test_fingerprints == first.test_fingerprints


def test_fingerprint_excludes_the_test(small_photos: Path) -> None:
    first = load_folders(small_photos)
    flat_image(small_photos / "test" / "b.png", 5)
    second = load_folders(small_photos)
    assert second.fingerprint == first.fingerprint
    assert second.test_fingerprints != first.test_fingerprints


def test_fingerprint_is_the_same_in_every_version() -> None:
    """A changed value would cut every run that people have on disk from its data."""
    items = Items(np.array(["cat/1", "dog/1"]), np.array(["p", "q"]), np.array([0, 1]))
    result = fingerprint({"train": items}, np.array(["cat", "dog"]), {"p": "00", "q": "11"})
    rows = '["train","cat/1","cat",null,"00"],["train","dog/1","dog",null,"11"]'
    canonical = '{"classes":["cat","dog"],"rows":[' + rows + "]}"
    assert result == hashlib.sha256(canonical.encode()).hexdigest()


def test_items_are_written_beside_the_runs(small_photos: Path) -> None:
    data = load_folders(small_photos)
    path = small_photos.parent / "runs" / ".data" / data.fingerprint / "items.csv"
    lines = path.read_text().splitlines()
    assert lines[0] == "id,path,split,label,group" and len(lines) == 1 + 12 + 4 + 1
    assert "cat/train0,train/cat/train0.png,train,cat," in lines and lines[-1] == "a,test/a.png,test,,"


@pytest.mark.parametrize("n_folds", [17, 100])
def test_impossible_folds_are_refused_with_the_first(small_photos: Path, n_folds: int) -> None:
    """Else seventeen networks would be trained before the eighteenth says that it has no rows."""
    with pytest.raises(DataError, match=r"fold 16 of \d+ would be empty; set a smaller number of folds"):
        fold_of(load_folders(small_photos), n_folds, 0, 0)


def test_folds_pool_and_divide(small_photos: Path) -> None:
    data = load_folders(small_photos)
    folds = [fold_of(data, 3, fold, split_seed=0) for fold in range(3)]
    everything = sorted([*data.splits["train"].ids, *data.splits["valid"].ids])
    assert sorted(name for part in folds for name in part.splits["valid"].ids) == everything
    for part in folds:
        assert sorted([*part.splits["train"].ids, *part.splits["valid"].ids]) == everything
        assert part.fingerprint == data.fingerprint and "test" in part.splits
        assert np.ptp(np.bincount(part.splits["valid"].targets)) <= 1
    refit = refit_of(data)
    assert "valid" not in refit.splits and sorted(refit.splits["train"].ids) == everything
    assert refit.fingerprint == data.fingerprint


def test_folds_and_refits_refuse_an_id_in_both_splits(small_photos: Path) -> None:
    flat_image(small_photos / "valid" / "cat" / "train0.png", 77)
    data = load_folders(small_photos)
    for pool in (lambda: fold_of(data, 2, 0, 0), lambda: refit_of(data)):
        with pytest.raises(DataError, match="'cat/train0'"):
            pool()


def test_impossible_folds_are_refused(small_photos: Path) -> None:
    data = load_folders(small_photos)
    with pytest.raises(DataError, match="smaller number"):
        fold_of(data, 17, 16, 0)
    with pytest.raises(RecipeError):
        fold_of(data, 3, 3, 0)
    single = data.splits["train"].take(np.flatnonzero(data.splits["train"].targets == 0)[:1])
    dogs = data.splits["train"].take(data.splits["train"].targets == 1)
    lonely = Dataset(data.classes, {"train": single, "valid": dogs}, "", {}, data.open_image)
    with pytest.raises(DataError, match="'cat'"):
        [fold_of(lonely, 2, fold, 0) for fold in range(2)]


def test_image_readers_are_pickled(small_photos: Path) -> None:
    for data, path in ((load_folders(small_photos), "test/a.png"), (digits_dataset(), "0")):
        reader = pickle.loads(pickle.dumps(data.open_image))
        assert reader == data.open_image and reader(path).mode == "RGB"


def test_fingerprint_covers_groups_and_soft_labels() -> None:
    from dataclasses import replace

    from ensemble.data.dataset import Items, fingerprint

    names = np.array(["x", "y"])
    items = Items(
        names, names, np.array([0, 1]), np.array(["g", "h"]), np.array([[0.75, 0.25], [0.25, 0.75]], "f4")
    )
    others = [
        items,
        replace(items, groups=np.array(["g", "g"])),
        replace(items, groups=None),
        replace(items, soft=np.array([[1, 0], [0, 1]], "f4")),
        replace(items, soft=None),
    ]
    content = {"x": "1", "y": "2"}
    assert len({fingerprint({"train": item}, np.array(["a", "b"]), content) for item in others}) == len(others)
