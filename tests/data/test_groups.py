"""Groups from a file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.folder_photos import folder_spec, load_folders

from ensemble.core.errors import DataError
from ensemble.data.load import current_fingerprint, fold_of


def groups_file(root: Path, *lines: str) -> str:
    (root.parent / "groups.csv").write_text("\n".join(["split,id,group", *lines]) + "\n")
    return str(root.parent / "groups.csv")


def test_groups_file_joins_items(small_photos: Path) -> None:
    path = groups_file(small_photos, "train,cat/train0,a", "train,cat/train1,a", "valid,cat/valid0,a", "test,a,b")
    plain, result = load_folders(small_photos), load_folders(small_photos, groups=path)
    train = result.splits["train"]
    assert train.groups is not None and result.splits["valid"].groups is not None
    reported = dict(zip(train.ids.tolist(), train.groups.tolist(), strict=True))
    assert (
        reported["cat/train0"] == reported["cat/train1"] == "a" and len(set(reported.values())) == len(reported) - 1
    )
    assert result.splits["valid"].groups.tolist().count("a") == 1
    assert result.splits["test"].groups is None
    assert result.fingerprint != plain.fingerprint
    assert (
        current_fingerprint(folder_spec(small_photos, groups=path), small_photos.parent / "runs")
        == result.fingerprint
    )
    # folds keep them together, across train and valid
    fold = [fold_of(result, 3, number, 0) for number in range(3)]
    for view in fold:
        parts = [view.splits[split].groups for split in ("train", "valid")]
        assert not set(parts[0].tolist()) & set(parts[1].tolist())  # type: ignore[union-attr]


def test_groups_file_of_a_held_out_fraction(small_photos: Path) -> None:
    shutil.rmtree(small_photos / "valid")
    path = groups_file(small_photos, *(f"valid,cat/train{row},a" for row in range(3)), "train,cat/train3,a")
    result = load_folders(small_photos, valid=0.4, groups=path)
    sides = [set(result.splits[split].groups.tolist()) for split in ("train", "valid")]  # type: ignore[union-attr]
    assert ("a" in sides[0]) != ("a" in sides[1])


def test_groups_that_do_not_fit_are_refused(small_photos: Path) -> None:
    with pytest.raises(DataError, match="none of which is an id"):
        load_folders(small_photos, groups=groups_file(small_photos, "train,cow/1,a"))
    with pytest.raises(DataError, match="is in two groups"):
        load_folders(small_photos, groups=groups_file(small_photos, "train,cat/train0,a", "train,cat/train0,b"))
    with pytest.raises(DataError, match=r"data\.groups"):
        groups_file(small_photos, "x")
        (small_photos.parent / "groups.csv").write_text("split,name\ntrain,a\n")
        load_folders(small_photos, groups=str(small_photos.parent / "groups.csv"))
