"""Class folders and names: levels, look-alikes, numbers, words that mean missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.layouts import classes, draw, loaded, refused, write_table

from ensemble.cli import run as ens
from ensemble.data.inputs import named_images
from ensemble.recipe.data_spec import DataSpec

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"train": "seg_train", "test": None}, "data.train"),
        ({"train": "seg_train/seg_train", "test": "seg_test"}, "data.test"),
        ({"train": "seg_train/seg_train", "tests": {"more": "seg_test"}}, "data.tests.more"),
    ],
)
def test_folder_between_split_and_classes_is_named(keys: dict, expected: str) -> None:
    root = classes("seg_train/seg_train", "seg_test/seg_test")
    message = refused(DataSpec(form="folders", path=str(root), **keys))
    assert f"set {expected} to the inner one" in message and "'cat', 'dog'" in message


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("siteA", "siteB"), "'cat', 'dog'"),
        ((".", "flowers"), "'flowers'"),
    ],
)
def test_level_above_the_classes_is_refused(folders: tuple[str, ...], expected: str) -> None:
    root = classes(*folders)
    message = refused(root)
    assert expected in message and "data.classes" in message


@pytest.mark.parametrize("inner", ["cat/tabby/{}.png dog/poodle/{}.png", "cat/images/{}.png dog/images/{}.png"])
def test_class_folders_may_hold_folders(inner: str) -> None:
    draw(*[name.format(i) for name in inner.split() for i in range(4)])
    assert loaded(Path("d"))[0] == ["cat", "dog"]


def test_system_files_are_skipped_and_counted() -> None:
    root = classes("train")
    names = [
        "train/@eaDir/1.png",
        "train/cat/@eaDir/1.png/SYNO.png",
        "train/$Recycle.Bin/1.png",
        "train/#recycle/1.png",
    ]
    draw(*names, "train/System Volume Information/1.png", "train/lost+found/1.png")
    for name in ("Thumbs.db", "desktop.ini", "Icon\r"):
        (root / "train" / "cat" / name).write_bytes(b"")
    (root / "train" / "cat" / "two\nlines.txt").write_bytes(b"")
    labels, sizes, notes = loaded(root)
    assert labels == ["cat", "dog"] and sizes == {"train": 6, "valid": 2}
    assert [line for line in notes if "operating systems" in line] == [notes[-1]]
    assert notes[-1].startswith("9 files and folders")
    assert len(named_images([str(root / "train")])) == 8
    draw("train/dog/bad\rname/1.png")
    assert r"bad\rname" in refused(root)


def test_classes_that_look_alike_are_named() -> None:
    draw(
        *[
            f"train/{label}/{i}.png"
            for label in ("Cat", "cat", "dog", "d\u200bog", "do  g", "do g")
            for i in range(4)
        ]
    )
    notes = loaded(Path("d"))[2]
    assert any("'Cat', 'cat'" in line for line in notes)
    assert any(r"'dog', 'd\u200bog'" in line for line in notes)
    assert any("'do  g', 'do g'" in line for line in notes)
    draw("valid/DOG/1.png", "valid/cat/1.png")
    assert "'dog' differs by case" in refused(Path("d"))


def test_class_folder_names_are_stripped() -> None:
    draw(*[f"train/{label}/{i}.png" for label in ("ant ", " bee") for i in range(4)])
    draw("valid/ant/1.png", "valid/bee /1.png", "test/ant/1.png")
    assert loaded(Path("d"))[0] == ["ant", "bee"]
    listed = DataSpec(form="folders", path="d", classes=("bee ", "ant"))
    assert loaded(listed)[0] == ["bee", "ant"]
    draw("train/ant/9.png")
    assert "differ by spaces at their ends alone: 'ant', 'ant '" in refused(Path("d"))


@pytest.mark.parametrize("pair", ["0 0.0", "1 01", "10 1e1", "2. 2"])
def test_classes_of_equal_number_are_named(pair: str) -> None:
    first, second = pair.split()
    draw(*[f"train/{label}/{i}.png" for label in (first, second, "3", "-3", "x1") for i in range(4)])
    lines = [line for line in loaded(Path("d"))[2] if "same number" in line]
    assert len(lines) == 1 and f"{first!r}" in lines[0] and f"{second!r}" in lines[0] and "'3'" not in lines[0]


def test_large_numbers_differ_by_every_digit() -> None:
    draw(*[f"train/{label}/{i}.png" for label in (f"1{'0' * 30}", f"1{'0' * 29}1", "nan", "inf") for i in range(4)])
    assert loaded(Path("d"))[2] == []


def test_label_with_another_spelling_of_a_number_has_a_hint(numbered_images: Path) -> None:
    write_table("train.csv", "id,label", *[f"{i},{i % 2}.0" for i in range(6)])
    write_table("valid.csv", "id,label", "6,0", "7,1")
    spec = DataSpec(form="csv", path="d", train="train.csv", images="images")
    assert "'0' and '0.0' are the same number" in refused(spec)
    listed = spec.model_copy(update={"classes": ("ant", "bee")})
    assert "'0.0' and '0' are the same number" in refused(listed)


@pytest.mark.parametrize("labels", [("cat", "nan"), ("None", "NA")])
def test_classes_read_as_missing_are_named_by_check(
    numbered_images: Path, labels: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_table("list.csv", "id,label", *[f"{i},{labels[i % 2]}" for i in range(8)])
    assert ens(["check", "--data", str(path)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "read as missing" in line]
    assert line.startswith("! ") and "'cat'" not in line and f"{labels[1]!r}" in line
